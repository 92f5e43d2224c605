"""Damaged files against everything that reads files: refused with one line, or read."""

import hashlib
import json
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trencadis_bench.fuzz.damage import damage_bytes, damage_tree, to_toml
from trencadis_bench.fuzz.data_files import DATA_FILES
from trencadis_bench.fuzz.networks import random_network
from trencadis_bench.fuzz.protobuf import damage_model
from trencadis_bench.fuzz.trial import Class, Trial
from trencadis_boards import load_board
from trencadis_boards.load import board_text
from trencadis_compiler.compile import compile_model
from trencadis_compiler.importer.reading.read_model import read_model
from trencadis_compiler.importer.standard import load_standard
from trencadis_format.compiled import CompiledNetwork
from trencadis_format.errors import FailureError, UserError
from trencadis_host import Session

__all__ = ["PARSERS", "try_parser"]

Writer = Callable[[int, np.random.Generator, Path], Callable[[], Any]]

IMAGES_PER_NETWORK = 50
"""Damaged images made of one compiled network, one after the other."""


def try_parser(kind: str, seed: int, folder: Path) -> Trial:
    """Damage a file as a seed says, and read it.

    Parameters
    ----------
    kind : str
        One of `PARSERS`.
    seed : int
        Seed of the damage.
    folder : Path
        Where files are written.
    """
    rng = np.random.default_rng([seed, len(kind)])
    read = PARSERS[kind](seed, rng, folder)
    try:
        read()
    except (UserError, FailureError) as error:  # a device may be the first that looks
        one_line = bool(str(error)) and "\n" not in str(error)
        return Trial(Class.REFUSED if one_line else Class.LINES, str(error)[:300], 0, ())
    except MemoryError:
        return Trial(Class.MEMORY, "", 0, ())
    except Exception:
        return Trial(Class.CRASH, traceback.format_exc()[-2000:], 0, ())
    return Trial(Class.EQUAL, "", 0, ())


def _network(rng: np.random.Generator) -> onnx.ModelProto:
    return random_network(rng).model


def _model_bytes(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.onnx"
    path.write_bytes(damage_bytes(_network(rng).SerializeToString(), rng))
    return lambda: compile_model(path, load_board("sim"))


def _model_fields(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    model = _network(rng)
    for _ in range(int(rng.integers(1, 4))):
        damage_model(model, rng)
    path = folder / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    return lambda: compile_model(path, load_board("sim"))


def _image(seed: int, folder: Path) -> bytes:
    """An image to damage: the same for some seeds in a row."""
    number = seed // IMAGES_PER_NETWORK
    kept = folder / f"whole-{number}.tcd"
    path = folder / "whole.onnx"
    first = number * IMAGES_PER_NETWORK * 2
    for even in range(first, first + 1000, 2):
        if kept.exists():
            break
        path.write_bytes(_network(np.random.default_rng(even)).SerializeToString())
        try:
            compile_model(path, load_board("sim")).save(kept)
        except UserError:
            continue
    return kept.read_bytes()


def _run_image(path: Path) -> None:
    """Load an image and run it on what its own manifest says is an input."""
    form = CompiledNetwork.load(path).inputs[0]
    sizes = [1 if size is None else size for size in form.shape]
    if min(sizes, default=1) < 0:
        raise AssertionError(f"an image whose input has shape {sizes} was loaded")
    if np.prod(sizes, dtype=np.float64) > 1 << 22:
        return
    with Session(path, "emulator") as session:
        session.run(None, {form.name: np.zeros(sizes, form.dtype)})


def _image_bytes(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.tcd"
    path.write_bytes(damage_bytes(_image(seed, folder), rng))
    return lambda: _run_image(path)


def _image_mended(
    seed: int, rng: np.random.Generator, folder: Path, *, manifest_only: bool = False
) -> Callable[[], Any]:
    """Damage what the digests cover, and make the digests right again."""
    data = _image(seed, folder)
    length = int.from_bytes(data[:8], "little")
    header, image = json.loads(data[8 : 8 + length]), data[8 + length :]
    metadata = header["__metadata__"]
    manifest = json.loads(metadata["manifest"])
    if manifest_only or rng.random() < 0.5:
        manifest = damage_tree(manifest, rng)
    else:
        samples = bytearray(image)
        for _ in range(int(rng.integers(1, 4))):
            samples[int(rng.integers(len(samples)))] ^= 1 << int(rng.integers(8))
        image = bytes(samples)
    digests = (hashlib.sha256(data[8 + length :]).hexdigest(), hashlib.sha256(image).hexdigest())
    metadata["manifest"] = json.dumps(manifest).replace(*digests)
    metadata["sha256"] = hashlib.sha256(metadata["manifest"].encode()).hexdigest()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "damaged.tcd"
    path.write_bytes(len(text).to_bytes(8, "little") + text + image)
    return lambda: _run_image(path)


def _board_text(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.toml"
    text = board_text(str(rng.choice(["sim", "u250", "zu3eg", "ulx3s"])))
    path.write_bytes(damage_bytes(text.encode(), rng))
    return lambda: load_board(str(path))


def _board_tree(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.toml"
    tree = tomllib.loads(board_text(str(rng.choice(["sim", "u250", "zu3eg", "ulx3s"]))))
    for _ in range(int(rng.integers(1, 3))):
        tree = damage_tree(tree, rng)
    path.write_text(to_toml(tree), encoding="utf-8", errors="replace")
    return lambda: load_board(str(path))


def _model_import(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    """Fields of a model that is only brought to standard form."""
    model = _network(rng)
    for _ in range(int(rng.integers(1, 4))):
        damage_model(model, rng)
    path = folder / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    return lambda: load_standard(path)


def _model_raw(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    """Bytes of a model that is only read."""
    path = folder / "damaged.onnx"
    number = seed // IMAGES_PER_NETWORK
    whole = folder / f"whole-{number}.raw"
    if not whole.exists():
        whole.write_bytes(_network(np.random.default_rng(number)).SerializeToString())
    path.write_bytes(damage_bytes(whole.read_bytes(), rng))
    return lambda: read_model(path)


def _image_manifest(seed: int, rng: np.random.Generator, folder: Path) -> Callable[[], Any]:
    """A manifest with right digests that is only read."""
    _image_mended(seed, rng, folder, manifest_only=True)
    path = folder / "damaged.tcd"
    return lambda: CompiledNetwork.load(path)


PARSERS: dict[str, Writer] = {
    **DATA_FILES,
    "board text": _board_text,
    "board tree": _board_tree,
    "image bytes": _image_bytes,
    "image manifest": _image_manifest,
    "image mended": _image_mended,
    "model bytes": _model_bytes,
    "model fields": _model_fields,
    "model import": _model_import,
    "model raw": _model_raw,
}
"""Parsers, and how their inputs are damaged."""
