"""Kernels around the dot products: bytes that are copied, gathered, looked up and selected."""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from trencadis_host.devices.cpu.emit import I8, I64, Emitter, vector

__all__ = [
    "CopySpec",
    "PatchSpec",
    "PoolSpec",
    "TableSpec",
    "emit_copy",
    "emit_patch",
    "emit_pool",
    "emit_table",
]


@dataclass(frozen=True)
class CopySpec:
    """Rows of bytes, copied for every sample: `name(from, to, samples)`.

    Attributes
    ----------
    rows, row_bytes : int
        What is copied.
    in_pitch, out_pitch : int
        Bytes from row to row.
    in_first, out_first : int
        Bytes before the first row.
    in_stride, out_stride : int
        Bytes from sample to sample.
    """

    rows: int
    row_bytes: int
    in_pitch: int
    out_pitch: int
    in_first: int
    out_first: int
    in_stride: int
    out_stride: int


def emit_copy(module: Any, name: str, spec: CopySpec) -> Any:
    """Write a copying kernel."""
    e = Emitter(module, name, 3)
    source, target, samples = e.arguments
    with e.loop(I64(0), samples) as sample:
        read = e.at(e.scaled(source, sample, spec.in_stride), spec.in_first)
        written = e.at(e.scaled(target, sample, spec.out_stride), spec.out_first)
        with e.loop(I64(0), I64(spec.rows)) as row:
            start, to = e.scaled(read, row, spec.in_pitch), e.scaled(written, row, spec.out_pitch)
            whole = spec.row_bytes // 16 * 16
            with e.loop(I64(0), I64(whole), 16) as at:
                e.store(e.load(vector(I8, 16), e.b.add(start, at)), e.b.add(to, at))
            rest = spec.row_bytes - whole
            for size in (8, 4, 2, 1):
                if rest & size:
                    value = e.load(ir.IntType(8 * size), e.at(start, whole))
                    e.store(value, e.at(to, whole))
                    whole += size
    return e.finish()


@dataclass(frozen=True)
class PatchSpec:
    """Windows of few bytes, gathered: `name(map, patches, samples)`.

    Attributes
    ----------
    rows, columns : int
        Windows.
    row_step, column_step : int
        Bytes of the map from window to window.
    first : int
        Bytes of the map before the first window.
    starts, lengths : tuple of int
        Runs of bytes of a window; they lie one after the other in a patch.
    pitch : int
        Bytes of a patch.
    in_stride, out_stride : int
        Bytes from sample to sample.
    """

    rows: int
    columns: int
    row_step: int
    column_step: int
    first: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    pitch: int
    in_stride: int
    out_stride: int


def emit_patch(module: Any, name: str, spec: PatchSpec) -> Any:
    """Write a gathering kernel; what a run's last vector has too much the next run overwrites."""
    e = Emitter(module, name, 3)
    source, target, samples = e.arguments
    with e.loop(I64(0), samples) as sample:
        read = e.at(e.scaled(source, sample, spec.in_stride), spec.first)
        written = e.scaled(target, sample, spec.out_stride)
        with e.loop(I64(0), I64(spec.rows)) as row:
            line = e.scaled(read, row, spec.row_step)
            to_line = e.scaled(written, row, spec.columns * spec.pitch)
            with e.loop(I64(0), I64(spec.columns)) as column:
                at = e.scaled(line, column, spec.column_step)
                to = e.scaled(to_line, column, spec.pitch)
                place = 0
                for start, length in zip(spec.starts, spec.lengths, strict=True):
                    size = min(1 << (length - 1).bit_length(), 16)
                    for offset in range(0, length, size):
                        value = e.load(vector(I8, size), e.at(at, start + offset))
                        e.store(value, e.at(to, place + offset))
                    place += length
    return e.finish()


@dataclass(frozen=True)
class PoolSpec:
    """The largest keys of pooling windows: `name(map, pooled, samples)`.

    Attributes
    ----------
    rows, columns, channels : int
        Outputs; channels are a multiple of 16.
    row_step, column_step, first : int
        Bytes of the map from window to window, and before the first.
    steps : tuple of int
        Bytes from a window's first position to all of its positions.
    row_pitch, pitch, out_first : int
        Bytes of what is written, from row to row, position to position and before the first.
    in_stride, out_stride : int
        Bytes from sample to sample.
    """

    rows: int
    columns: int
    channels: int
    row_step: int
    column_step: int
    first: int
    steps: tuple[int, ...]
    row_pitch: int
    pitch: int
    out_first: int
    in_stride: int
    out_stride: int


def emit_pool(module: Any, name: str, spec: PoolSpec) -> Any:
    """Write a pooling kernel."""
    e = Emitter(module, name, 3)
    source, target, samples = e.arguments
    size = next(size for size in (64, 32, 16) if not spec.channels % size)
    kind = vector(I8, size)
    with e.loop(I64(0), samples) as sample:
        read = e.at(e.scaled(source, sample, spec.in_stride), spec.first)
        written = e.at(e.scaled(target, sample, spec.out_stride), spec.out_first)
        with e.loop(I64(0), I64(spec.rows)) as row:
            line, to_line = (
                e.scaled(read, row, spec.row_step),
                e.scaled(written, row, spec.row_pitch),
            )
            with e.loop(I64(0), I64(spec.columns)) as column:
                at = e.scaled(line, column, spec.column_step)
                to = e.scaled(to_line, column, spec.pitch)
                with e.loop(I64(0), I64(spec.channels), size) as channel:
                    place = e.b.add(at, channel)
                    best = e.load(kind, e.at(place, spec.steps[0]))
                    for step in spec.steps[1:]:
                        keys = e.load(kind, e.at(place, step))
                        best = e.b.select(e.b.icmp_unsigned(">", keys, best), keys, best)
                    e.store(best, e.b.add(to, channel))
    return e.finish()


@dataclass(frozen=True)
class TableSpec:
    """A look-up of every byte of a map's rows, in place: `name(map, table, samples)`.

    Attributes
    ----------
    rows, row_bytes, pitch, first, stride : int
        Rows, their bytes, bytes from row to row, before the first and from sample to sample.
    """

    rows: int
    row_bytes: int
    pitch: int
    first: int
    stride: int


def emit_table(module: Any, name: str, spec: TableSpec) -> Any:
    """Write a kernel that looks keys up."""
    e = Emitter(module, name, 3)
    target, table, samples = e.arguments
    with e.loop(I64(0), samples) as sample:
        start = e.at(e.scaled(target, sample, spec.stride), spec.first)
        with e.loop(I64(0), I64(spec.rows)) as row:
            line = e.scaled(start, row, spec.pitch)
            with e.loop(I64(0), I64(spec.row_bytes)) as at:
                place = e.b.add(line, at)
                key = e.b.zext(e.load(I8, place), I64)
                e.store(e.load(I8, e.b.add(table, key)), place)
    return e.finish()
