"""The calibration data of a compiled network: what is kept of them, and how they are found again.

A compiled network keeps the path of its calibration data as it was given, and a digest. Whoever
needs the data again finds them there, or beside the model or the compiled network, if they are the
same; a file that has changed meanwhile is never taken.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.images import image_files
from trencadis_format.compiled import Source
from trencadis_format.errors import FileError
from trencadis_format.files import open_file

__all__ = ["find_calibration", "kept_calibration"]

MAX_BYTES = 16 << 30
"""Bytes of a file."""

PIECE = 1 << 20
"""Bytes that are read at a time."""


def kept_calibration(path: Path) -> dict[str, Any]:
    """Record of calibration data; JSON-ready.

    Raises
    ------
    FileError
        If they cannot be read.
    """
    return {"path": str(path), "sha256": _digest(path)}


def find_calibration(image: Path, model: Path, source: Source) -> Path | None:
    """The calibration data that a network was compiled with.

    Parameters
    ----------
    image, model : Path
        The compiled network, and its model: the data may be beside them.
    source : Source
        What the compiled network tells of them.

    Returns
    -------
    Path or None
        None if it was compiled without.

    Raises
    ------
    CompileError
        If they are no longer there, or others are.
    """
    if not source.options.get("calibrated"):
        return None
    kept = source.options.get("calibration")
    if not isinstance(kept, Mapping) or not isinstance(kept.get("path"), str):
        raise CompileError(
            f"{image}: was compiled with calibration data that it has no path of; give them by "
            "--calibration"
        )
    path = Path(kept["path"])
    changed = False
    for place in dict.fromkeys((path, model.parent / path.name, image.parent / path.name)):
        if place.exists():
            if _digest(place) == kept.get("sha256"):
                return place
            changed = True
    what = "which has changed since" if changed else "which is not there"
    raise CompileError(
        f"{image}: was compiled with the calibration data {path}, {what}; give the same data by "
        "--calibration"
    )


def _digest(path: Path) -> str:
    """Digest of a file, or of the names and contents of a folder's images."""
    total = hashlib.sha256()
    files = image_files(path) if path.is_dir() else [path]
    for file in files:
        one = hashlib.sha256()
        for piece in _pieces(file):
            one.update(piece)
        if len(files) == 1 and file == path:
            return one.hexdigest()
        total.update(repr((file.name, one.hexdigest())).encode())
    return total.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    try:
        with open_file(path, MAX_BYTES) as file:
            while piece := file.read(PIECE):
                yield piece
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
