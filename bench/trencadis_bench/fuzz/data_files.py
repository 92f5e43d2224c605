"""Damaged recipes, arrays, archives and data sets: what training and running are given."""

import io
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trencadis_bench.fuzz.damage import damage_bytes, damage_tree, strange, to_toml
from trencadis_compiler.importer.samples import load_arrays
from trencadis_format.files import load_array
from trencadis_host.arrays import load_feed
from trencadis_host.measure.accuracy import load_labels
from trencadis_train.data.idx import read_idx
from trencadis_train.data.npz import read_arrays
from trencadis_train.recipe.read import load_recipe

__all__ = ["DATA_FILES"]

Rng = np.random.Generator
Writer = Callable[[int, Rng, Path], Callable[[], Any]]

RECIPE = """name = "digits"
seed = 1
[data]
set = "digits"
[augment]
rotate_degrees = 15
zoom = 0.15
shift = 2
[[layer]]
kind = "conv"
units = 32
ways = 2
pool = 2
winners = 4
[[layer]]
kind = "linear"
units = 256
ways = 16
winners = 26
[[layer]]
kind = "linear"
units = 10
[training]
epochs = 50
batch = 64
learning_rate = 0.1
winners_warm_up = 0.3
weight_decay = 5e-4
label_smoothing = 0.05
[quantisation]
epochs = 6
learning_rate = 2e-3
"""

SPARSE_RECIPE = """name = "small"
engine = "sparse"
[data]
set = "fashion-mnist"
validation = 0.1
[[layer]]
kind = "linear"
units = 256
ways = 8
[[layer]]
kind = "linear"
units = 10
[training]
epochs = 12
batch = 128
learning_rate = 0.05
choose = "last"
[sparse]
activation = "relu"
evolution = "set"
schedule = "cosine"
"""

DTYPES = ("f4", "f8", "i1", "u1", ">i4", "i8", "f2", "?", "U3", "c8")


def _recipe_text(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.toml"
    text = RECIPE if rng.random() < 0.5 else SPARSE_RECIPE
    path.write_bytes(damage_bytes(text.encode(), rng))
    return lambda: load_recipe(path)


def _recipe_tree(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.toml"
    tree: Any = tomllib.loads(RECIPE if rng.random() < 0.5 else SPARSE_RECIPE)
    for _ in range(int(rng.integers(1, 4))):
        tree = damage_tree(tree, rng)
    path.write_text(to_toml(tree), encoding="utf-8", errors="replace")
    return lambda: load_recipe(path)


def _array(rng: Rng) -> np.ndarray:
    shape = tuple(int(n) for n in rng.integers(0, 5, int(rng.integers(0, 4))))
    return rng.normal(0, 3, shape).astype(str(rng.choice(DTYPES)))


def _saved(rng: Rng) -> bytes:
    file = io.BytesIO()
    np.save(file, _array(rng))
    return file.getvalue()


def _array_bytes(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.npy"
    path.write_bytes(damage_bytes(_saved(rng), rng))
    return lambda: load_array(path)


def _header(rng: Rng) -> bytes:
    """A header whose fields say something else than the data."""
    array = _array(rng)
    fields: dict[str, Any] = {
        "descr": array.dtype.str,
        "fortran_order": False,
        "shape": array.shape,
    }
    for _ in range(int(rng.integers(1, 3))):
        name = str(rng.choice(list(fields)))
        match int(rng.integers(4)):
            case 0:
                del fields[name]
                fields["more"] = strange(0, rng)
            case 1 if name == "shape":
                fields[name] = tuple(strange(n, rng) for n in (*array.shape, 1))
            case _:
                fields[name] = strange(fields[name], rng)
    text = repr(fields).encode("utf-8", "replace")[:60_000] + b"\n"
    size = len(text) if rng.random() < 0.9 else int(rng.integers(1 << 16))
    version = (1, 0) if rng.random() < 0.8 else tuple(int(n) for n in rng.integers(0, 5, 2))
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + bytes(version) + size.to_bytes(width, "little") + text + array.tobytes()


def _array_header(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    path = folder / "damaged.npy"
    path.write_bytes(_header(rng))
    return lambda: load_array(path)


def _labels(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    path = folder / "labels.npy"
    labels = rng.integers(-1, 10, int(rng.integers(0, 5))).astype(str(rng.choice(DTYPES)))
    np.save(path, labels if rng.random() < 0.8 else labels[None])
    if rng.random() < 0.5:
        path.write_bytes(damage_bytes(path.read_bytes(), rng))
    return lambda: load_labels(path, 3)


def _archive_bytes(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    """An .npz file: of damaged arrays, under damaged names, or with damaged bytes."""
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for number in range(int(rng.integers(0, 4))):
            name = str(strange("x", rng)) if rng.random() < 0.2 else f"a{number}"
            data = _header(rng) if rng.random() < 0.3 else _saved(rng)
            archive.writestr(zipfile.ZipInfo(f"{name[:200]}.npy"), data)
    data = file.getvalue()
    path = folder / "damaged.npz"
    path.write_bytes(damage_bytes(data, rng) if rng.random() < 0.6 else data)
    readers = (read_arrays, load_arrays, lambda path: load_feed(path, ["a0", "a1"]))
    reader = readers[int(rng.integers(len(readers)))]
    return lambda: reader(path)


def _idx_bytes(seed: int, rng: Rng, folder: Path) -> Callable[[], Any]:
    """A file of MNIST's form."""
    shape = [int(n) for n in rng.integers(0, 6, int(rng.integers(1, 4)))]
    kind = 8 if rng.random() < 0.8 else int(rng.integers(256))
    data = bytes([0, 0, kind, len(shape)])
    data += b"".join(size.to_bytes(4, "big") for size in shape)
    data += rng.bytes(int(np.prod(shape)))
    path = folder / "damaged-ubyte"
    path.write_bytes(damage_bytes(data, rng))
    return lambda: read_idx(path)


DATA_FILES: dict[str, Writer] = {
    "archive": _archive_bytes,
    "array bytes": _array_bytes,
    "array header": _array_header,
    "idx": _idx_bytes,
    "labels": _labels,
    "recipe text": _recipe_text,
    "recipe tree": _recipe_tree,
}
"""Files of data, and how they are damaged."""
