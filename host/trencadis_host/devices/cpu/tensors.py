"""The model's own arrays, quantised into maps and read out of them.

The arithmetic is that of `trencadis_format.keys` and of `unpack_outputs`, in the same order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from trencadis_format.tensor_formats import InputFormat, OutputFormat
from trencadis_host.devices.cpu.emit import F32, I8, I16, I32, I64, Emitter, vector
from trencadis_host.devices.cpu.programs import MapLayout
from trencadis_host.devices.cpu.round_sums import emit_rounded_sum

__all__ = ["InputSpec", "OutputSpec", "emit_dequantise", "emit_quantise", "input_spec",
           "output_spec"]  # fmt: skip

F64 = ir.DoubleType()

TOGETHER = 8
"""Numbers that are quantised at a time."""


@dataclass(frozen=True)
class InputSpec:
    """An array that goes in: `name(array, map, samples, flag)`.

    The flag, 64 bits in memory, becomes 1 if a number is not finite.

    Attributes
    ----------
    dtype : str
        `float32`, `int8` or `uint8`.
    sizes, strides, pitches : tuple of int
        Of the three loops, the innermost last: iterations, bytes of the array, bytes of the map.
    scale, zero, key_offset : float, int, int
        As in `InputFormat`.
    in_stride, out_stride, first : int
        Bytes from sample to sample, and of the map before the first value.
    """

    dtype: str
    sizes: tuple[int, int, int]
    strides: tuple[int, int, int]
    pitches: tuple[int, int, int]
    scale: float
    zero: int
    key_offset: int
    in_stride: int
    out_stride: int
    first: int


@dataclass(frozen=True)
class OutputSpec:
    """An array that comes out: `name(map, array, samples, scales, offsets)`.

    Attributes
    ----------
    dtype : str
        `float32`, `int8` or `uint8`.
    sizes, pitches, strides : tuple of int
        Of rows, columns and channels: their number, bytes of the map, bytes of the array.
    order : tuple of int
        The place of every channel.
    raw : bool
        The map holds sums: the result is sum * scale + offset, rounded once.
    integer : bool
        The result is key - key_offset.
    scale, zero, key_offset : float, int, int
        Else the result is (key - zero) * scale in float32.
    in_stride, out_stride : int
        Bytes from sample to sample.
    first : int
        Bytes of the map before the first value.
    """

    dtype: str
    sizes: tuple[int, int, int]
    pitches: tuple[int, int, int]
    strides: tuple[int, int, int]
    order: tuple[int, ...]
    raw: bool
    integer: bool
    scale: float
    zero: int
    key_offset: int
    in_stride: int
    out_stride: int
    first: int


def _strides(axes: str, sizes: dict[str, int], item: int) -> dict[str, int]:
    """Bytes of an array from one index to the next, of every axis of a map."""
    strides, step = {}, item
    for axis in reversed(axes + "".join(axis for axis in "CHW" if axis not in axes)):
        strides[axis] = step
        step *= sizes[axis]
    return strides


def input_spec(form: InputFormat, layout: MapLayout) -> InputSpec | None:
    """Function from an input's arrays to maps; None where only the general way does it."""
    if form.dtype not in ("float32", "int8", "uint8") or form.nonzeros:
        return None
    item = np.dtype(form.dtype).itemsize
    sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
    if (form.rows, form.columns, form.channels) != (layout.rows, layout.columns, layout.channels):
        return None
    strides = _strides(form.axes, sizes, item)
    pitches = {"C": 1, "H": layout.width * layout.pitch, "W": layout.pitch}
    # Along the innermost axis the array is read in vectors.
    loops = sorted("CHW", key=lambda axis: -strides[axis] * (sizes[axis] > 1))
    loops.sort(key=lambda axis: sizes[axis] > 1)
    return InputSpec(
        dtype=form.dtype,
        sizes=(sizes[loops[0]], sizes[loops[1]], sizes[loops[2]]),
        strides=(strides[loops[0]], strides[loops[1]], strides[loops[2]]),
        pitches=(pitches[loops[0]], pitches[loops[1]], pitches[loops[2]]),
        scale=form.scale,
        zero=form.zero_key,
        key_offset=form.key_offset,
        in_stride=form.values * item,
        out_stride=layout.stride,
        first=layout.first * layout.pitch,
    )


def output_spec(form: OutputFormat, layout: MapLayout) -> OutputSpec | None:
    """Function from maps to an output's arrays; None where only the general way does it."""
    if form.dtype not in ("float32", "int8", "uint8") or max(form.order) >= layout.channels:
        return None
    item = np.dtype(form.dtype).itemsize
    sizes = {"C": form.channels, "H": form.rows, "W": form.columns}
    strides = _strides(form.axes, sizes, item)
    if (form.rows, form.columns) != (layout.rows, layout.columns) or form.ratios:
        return None
    return OutputSpec(
        dtype=form.dtype,
        sizes=(form.rows, form.columns, form.channels),
        pitches=(layout.width * layout.pitch, layout.pitch, 4 if form.raw else 1),
        strides=(strides["H"], strides["W"], strides["C"]),
        order=form.order,
        raw=form.raw,
        integer=form.integer,
        scale=float(np.float32(form.scales[0])),
        zero=form.zero_key,
        key_offset=form.key_offset,
        in_stride=layout.stride,
        out_stride=form.channels * form.rows * form.columns * item,
        first=layout.first * layout.pitch,
    )


def emit_quantise(module: Any, name: str, spec: InputSpec) -> Any:
    """Write the kernel that quantises."""
    e = Emitter(module, name, 4)
    source, target, samples, flag = e.arguments
    bad = e.variable(I64)
    e.put(I64(0), bad)
    count = spec.sizes[2]
    with e.loop(I64(0), samples) as sample:
        read = e.scaled(source, sample, spec.in_stride)
        written = e.at(e.scaled(target, sample, spec.out_stride), spec.first)
        with e.loop(I64(0), I64(spec.sizes[0])) as i:
            read_i = e.scaled(read, i, spec.strides[0])
            written_i = e.scaled(written, i, spec.pitches[0])
            with e.loop(I64(0), I64(spec.sizes[1])) as j:
                read_j = e.scaled(read_i, j, spec.strides[1])
                written_j = e.scaled(written_i, j, spec.pitches[1])
                whole = count // TOGETHER * TOGETHER
                with e.loop(I64(0), I64(whole), TOGETHER) as k:
                    at, to = (
                        e.scaled(read_j, k, spec.strides[2]),
                        e.scaled(written_j, k, spec.pitches[2]),
                    )
                    _quantise(e, spec, at, to, TOGETHER, bad)
                if count > whole:
                    at = e.at(read_j, whole * spec.strides[2])
                    _quantise(e, spec, at, e.at(written_j, whole * spec.pitches[2]),
                              count - whole, bad)  # fmt: skip
    e.store(e.get(bad, I64), flag, 8)
    return e.finish()


def _quantise(e: Emitter, spec: InputSpec, at: Any, to: Any, count: int, bad: Any) -> None:
    """Quantise some numbers that lie one after the other."""
    if spec.dtype != "float32":
        keys = e.load(vector(I8, count), at)
        keys = e.b.add(keys, e.constant(keys.type, spec.key_offset))
    else:
        floats, doubles = vector(F32, count), vector(F64, count)
        values = e.load(floats, at, 4)
        # A number that is not finite less itself is not 0.
        rest = e.b.fcmp_unordered("!=", e.b.fsub(values, values), e.constant(floats, 0.0))
        mask = e.b.bitcast(rest, ir.IntType(count))
        found = e.b.zext(e.b.icmp_unsigned("!=", mask, ir.IntType(count)(0)), I64)
        e.put(e.b.or_(e.get(bad, I64), found), bad)
        quotient = e.b.fdiv(e.b.fpext(values, doubles), e.constant(doubles, spec.scale))
        rounded = e.call(f"llvm.rint.v{count}f64", doubles, quotient)
        rounded = e.b.fadd(rounded, e.constant(doubles, float(spec.zero)))
        low, high = e.constant(doubles, 0.0), e.constant(doubles, 255.0)
        rounded = e.b.select(e.b.fcmp_ordered(">", rounded, low), rounded, low)
        rounded = e.b.select(e.b.fcmp_ordered("<", rounded, high), rounded, high)
        keys = e.b.trunc(e.b.fptosi(rounded, vector(I32, count)), vector(I8, count))
    if spec.pitches[2] == 1:
        e.store(keys, to)
        return
    for i in range(count):
        e.store(e.b.extract_element(keys, I32(i)), e.at(to, i * spec.pitches[2]))


def emit_dequantise(module: Any, name: str, spec: OutputSpec) -> Any:
    """Write the kernel that reads results out of a map."""
    e = Emitter(module, name, 6)
    source, target, samples, order, scales, offsets = e.arguments
    rows, columns, channels = (I64(size) for size in spec.sizes)
    with e.loop(I64(0), samples) as sample:
        read = e.at(e.scaled(source, sample, spec.in_stride), spec.first)
        written = e.scaled(target, sample, spec.out_stride)
        with e.loop(I64(0), rows) as row, e.loop(I64(0), columns) as column:
            at = e.scaled(e.scaled(read, row, spec.pitches[0]), column, spec.pitches[1])
            to = e.scaled(e.scaled(written, row, spec.strides[0]), column, spec.strides[1])
            with e.loop(I64(0), channels) as channel:
                place = e.wide(e.load(I32, e.scaled(order, channel, 4), 4))
                where = e.scaled(at, place, spec.pitches[2])
                value = _dequantised(e, spec, where, channel, scales, offsets)
                e.store(value, e.scaled(to, channel, spec.strides[2]))
    return e.finish()


def _dequantised(
    e: Emitter, spec: OutputSpec, at: Any, channel: Any, scales: Any, offsets: Any
) -> Any:
    """One result."""
    if spec.raw:
        scale = e.load(F64, e.scaled(scales, channel, 8), 8)
        offset = e.load(F64, e.scaled(offsets, channel, 8), 8)
        return emit_rounded_sum(e, e.load(I32, at), scale, offset)
    key = e.load(I8, at)
    if spec.integer:
        return e.b.trunc(e.b.sub(e.b.zext(key, I16), I16(spec.key_offset)), I8)
    difference = e.b.sub(e.b.zext(key, I32), I32(spec.zero))
    return e.b.fmul(e.b.sitofp(difference, F32), F32(spec.scale))
