"""Data of tensors in files beside the model: read below its folder, and nowhere else."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from trencadis_compiler.errors import CompileError

__all__ = ["read_external_data"]

SUB_BYTE_BITS: dict[int, int] = {
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4,
}
"""Types of which several share a byte."""


@dataclass(frozen=True)
class _Part:
    """Place of a tensor's data."""

    tensor: onnx.TensorProto
    location: str
    offset: int
    length: int


def read_external_data(
    tensors: Sequence[onnx.TensorProto],
    path: Path,
    *,
    limit: int,
    update: Callable[[bytes], None],
) -> None:
    """Put data that are in other files into their tensors.

    Parameters
    ----------
    tensors : sequence of TensorProto
        Tensors, changed in place.
    path : Path
        The model's file.
    limit : int
        Bytes that may be read in all.
    update : callable
        Given the data of each tensor as they are read.

    Raises
    ------
    CompileError
        If a file is not below the model's folder, or shorter than said; if tensors share data or
        have more than `limit` bytes.
    """
    parts = [_part(tensor, path) for tensor in tensors if _is_external(tensor)]
    if not parts:
        return
    total = sum(part.length for part in parts)
    if total > limit:
        raise CompileError(
            f"{path}: {total} bytes of external data, more than the {limit} that are read beside "
            "the model; is it the right file?"
        )
    _check_overlaps(parts, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    files: dict[str, int] = {}
    try:
        for part in parts:
            if part.location not in files:
                files[part.location] = _opened(part, path, folder)
            data = _read(files[part.location], part, path)
            update(data)
            tensor = part.tensor
            tensor.raw_data = data
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    finally:
        for file in (*files.values(), folder):
            os.close(file)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _part(tensor: onnx.TensorProto, path: Path) -> _Part:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        offset = int(entries.get("offset", "0") or "0")
        length = int(entries["length"]) if entries.get("length") else _size(tensor)
    except ValueError:
        raise CompileError(
            f"{path}: constant {tensor.name!r} has external data at no number; export it again"
        ) from None
    if offset < 0 or length != _size(tensor):
        raise CompileError(
            f"{path}: constant {tensor.name!r} of {_size(tensor)} bytes has external data of "
            f"{length} bytes at {offset}; export it again"
        )
    return _Part(tensor, location, offset, length)


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes that a tensor's elements take."""
    elements = 1
    for dim in tensor.dims:
        elements *= max(dim, 0)
    bits = SUB_BYTE_BITS.get(tensor.data_type)
    if bits is None:
        try:
            bits = 8 * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
        except (KeyError, TypeError) as error:
            raise ValueError(f"type {tensor.data_type}") from error
    return (elements * bits + 7) // 8


def _check_overlaps(parts: Sequence[_Part], path: Path) -> None:
    by_place = sorted(parts, key=lambda part: (part.location, part.offset))
    for before, after in zip(by_place, by_place[1:], strict=False):
        shared = before.location == after.location
        if shared and after.length and before.offset + before.length > after.offset:
            raise CompileError(
                f"{path}: constants {before.tensor.name!r} and {after.tensor.name!r} share data in "
                f"{after.location!r}; export the model again"
            )


def _opened(part: _Part, path: Path, folder: int) -> int:
    """The file of a tensor's data, opened without following a link out of the model's folder."""
    name = PurePosixPath(part.location)
    outside = (
        not part.location
        or "\0" in part.location
        or "\\" in part.location
        or name.is_absolute()
        or ".." in name.parts
    )
    base = Path(os.path.realpath(path.parent))
    inside = None if outside else Path(os.path.realpath(base / name))
    if inside is None or not inside.is_relative_to(base) or inside == base:
        raise CompileError(
            f"{path}: data of {part.tensor.name!r} are in {part.location!r}, which is not below "
            "the model's folder; put the file there itself, not a link"
        )
    try:
        file = _open_below(folder, inside.relative_to(base).parts)
    except OSError as error:
        raise CompileError(
            f"{path}: data of {part.tensor.name!r} in {part.location!r} cannot be read: "
            f"{error.strerror}; keep the file beside the model"
        ) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise CompileError(
            f"{path}: data of {part.tensor.name!r} in {part.location!r} cannot be read: not a "
            "regular file"
        )
    return file


def _open_below(folder: int, parts: Sequence[str]) -> int:
    """Open a file below a folder; no part of its path may be a link."""
    *folders, last = parts
    current = os.dup(folder)
    try:
        for part in folders:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=current)
    finally:
        os.close(current)


def _read(file: int, part: _Part, path: Path) -> bytes:
    size = os.fstat(file).st_size
    if part.offset + part.length > size:
        raise CompileError(
            f"{path}: data of {part.tensor.name!r} end at byte {part.offset + part.length} of "
            f"{part.location!r}, which has {size}; copy the whole file beside the model"
        )
    pieces, at, left = [], part.offset, part.length
    while left:
        piece = os.pread(file, min(left, 1 << 30), at)
        if not piece:
            raise CompileError(f"{path}: {part.location!r} became shorter while it was read")
        pieces.append(piece)
        at, left = at + len(piece), left - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
