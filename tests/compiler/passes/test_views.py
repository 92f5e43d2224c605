"""Pad, Slice, Split and Gather that the layers around them do, judged by the file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import Compiled, compile_model, import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.verify.check import check_compiled

BOARD = load_board("sim")


def judged(path: Path) -> Compiled:
    compiled = compile_model(path, BOARD)
    check = check_compiled(compiled)
    assert (check.reason, check.samples) == ("", 2)
    return compiled


def places(compiled: Compiled) -> list[str]:
    return [entry["place"] for entry in compiled.compiled.report["segments"]]


def reason(compiled: Compiled) -> str:
    return next(e["reason"] for e in compiled.compiled.report["segments"] if e["place"] == "host")


def pad(w: Any, x: str, *pads: int) -> str:
    return w.node("Pad", x, w.constant(np.array(pads, np.int64)))


def cut(w: Any, x: str, start: int, stop: int, axis: int = 1, step: int = 1) -> str:
    numbers = [w.constant(np.array([n], np.int64)) for n in (start, stop, axis, step)]
    return w.node("Slice", x, *numbers)


def test_a_causal_pad_is_the_convolutions(writer) -> None:
    w = writer(shape=(3, 20))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 3, 3)), pads=[1, 1]))
    # As quantisers have it: with the same scale before and after.
    y = w.quantised(pad(w, y, 0, 0, 4, 0, 0, 0))
    y = w.quantised(w.node("Conv", y, w.integers(w.sparse(5, 4, 3)), dilations=[2]), 2**-3)
    compiled = judged(w.save(y, 5, 20))
    assert places(compiled) == ["overlay"]
    assert compiled.network.layers[1].padding == (0, 4, 0, 0)
    assert "Pad" in "".join(compiled.compiled.segments[0].nodes)


@pytest.mark.parametrize("quantised", [False, True])
def test_a_pad_of_the_input(writer, quantised: bool) -> None:
    w = writer(shape=(2, 6, 5))
    y = w.quantised("x") if quantised else "x"
    y = pad(w, pad(w, y, 0, 0, 1, 2, 0, 0, 0, 1), 0, 0, 0, 0, 0, 0, 2, 0)
    y = w.quantised(y)
    y = w.quantised(w.node("Conv", y, w.integers(w.sparse(4, 2, 3, 3)), pads=[1, 0, 0, 1]), 2**-3)
    compiled = judged(w.save(y, 4, 8, 7))
    assert places(compiled) == ["overlay"]
    assert compiled.network.layers[0].padding == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("pads", "value", "message"),
    [
        ((0, 1, 0, 0, 0, 0, 0, 0), 0.0, "only positions can be padded, and nothing cut off"),
        ((0, 0, -1, 0, 0, 0, 0, 0), 0.0, "only positions can be padded, and nothing cut off"),
        ((0, 0, 1, 0, 0, 0, 0, 0), 1.0, "pads with 1.0; the overlay has zeros"),
    ],
)
def test_other_pads_are_the_hosts(writer, pads, value, message) -> None:
    w = writer(shape=(2, 6, 5))
    y = w.node("Pad", w.quantised("x"), w.constant(np.array(pads)), w.constant(np.float32(value)))
    channels = 3 if pads[1] else 2
    y = w.node("Conv", w.quantised(y), w.integers(w.sparse(4, channels, 3, 3)))
    compiled = judged(w.save(w.quantised(y, 2**-3), 4, "H", "W"))
    assert places(compiled) == ["host", "overlay"]
    assert message in reason(compiled)


def test_kernels_that_are_cut_off_are_not_computed(writer) -> None:
    w = writer(shape=(2, 6, 6))
    bias = w.constant(np.arange(6, dtype=np.float32))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3)), bias)
    y = w.quantised(cut(w, y, 5, 0, step=-2), 2**-3)
    compiled = judged(w.save(y, 3, 4, 4))
    assert places(compiled) == ["overlay"]
    (layer,) = compiled.network.layers
    assert [len(layer.weights), *map(int, layer.bias)] == [3, 5, 3, 1]


def test_channels_that_are_cut_out_are_kernels_with_zeros(writer) -> None:
    w = writer(shape=(6, 5, 5))
    x = w.quantised("x")
    picked = w.node("Gather", x, w.constant(np.array([4, 0, -1])), axis=1)
    y = w.node("Conv", w.quantised(picked), w.integers(w.sparse(4, 3, 3, 3)), pads=[1] * 4)
    compiled = judged(w.save(w.quantised(y, 2**-3), 4, 5, 5))
    assert places(compiled) == ["overlay"]
    used = np.flatnonzero(np.any(compiled.network.layers[0].weights, axis=(0, 2, 3)))
    assert used.tolist() == [0, 4, 5]


def test_the_parts_of_a_split_read_the_whole(writer) -> None:
    w = writer(shape=(2, 6, 6))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3))), 2**-3)
    parts = w.nodes("Split", 2, y, w.constant(np.array([4, 2])), axis=1)
    made = []
    for part, channels in zip(parts, (4, 2), strict=True):
        part = pad(w, part, 0, 0, 1, 1, 0, 0, 1, 1)
        y = w.node("Conv", w.quantised(part, 2**-3), w.integers(w.sparse(3, channels, 3, 3)))
        made.append(w.quantised(y, 2**-3))
    compiled = judged(w.save(w.node("Concat", *made, axis=1), 6, 4, 4))
    assert places(compiled) == ["overlay", "overlay", "overlay", "host"]
    assert "Concat" in reason(compiled)
    assert compiled.compiled.report["overlay_share"] == 1


def test_numbers_of_a_vector(writer) -> None:
    w = writer(shape=(12,))
    x = w.quantised("x")
    y = w.node("MatMul", cut(w, x, 3, 8), w.integers(w.sparse(5, 4)))
    z = w.node("MatMul", cut(w, x, 0, 4), w.integers(w.sparse(4, 4)))
    both = w.node("Add", w.quantised(y, 2**-2), w.quantised(z, 2**-2))
    compiled = judged(w.save(both, 4))
    assert places(compiled) == ["overlay", "overlay", "host"]


def test_a_part_that_leaves_the_model_is_the_hosts(writer) -> None:
    w = writer(shape=(2, 6, 6))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3))), 2**-3)
    padded = pad(w, y, 0, 0, 1, 1, 0, 0, 1, 1)
    compiled = judged(w.save(padded, 6, 6, 6))
    assert places(compiled) == ["overlay", "host"]


@pytest.mark.parametrize("op_type", ["MaxPool", "Softmax"])
def test_what_reads_a_part_otherwise_is_the_hosts(writer, op_type: str) -> None:
    w = writer(shape=(2, 6, 6))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3))), 2**-3)
    y = pad(w, y, 0, 0, 1, 1, 0, 0, 1, 1)
    options = {"kernel_shape": [2, 2]} if op_type == "MaxPool" else {"axis": 1}
    compiled = judged(w.save(w.node(op_type, y, **options), 6, "H", "W"))
    assert places(compiled) == ["overlay", "host"]


@pytest.mark.parametrize(("scale", "last"), [(2**-3, ["overlay"]), (0.123, [])])
def test_what_the_host_moves_keeps_its_scale(writer, scale: float, last: list[str]) -> None:
    # If float32 has all multiples of it.
    w = writer(shape=(2, 4, 4))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(3, 2, 3, 3))), scale)
    scales = w.constant(np.array([1, 1, 2, 2], np.float32))
    y = w.node("Resize", y, w.constant(np.zeros(0, np.float32)), scales, mode="nearest")
    # There is no quantiser between the two.
    y = w.node("Conv", y, w.integers(w.sparse(4, 3, 3, 3)))
    compiled = judged(w.save(w.quantised(y, 2**-3), 4, 2, 2))
    assert places(compiled) == ["overlay", "host", *last]


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "message"),
    [
        ([1, 0], [3, 9], [1], "are not vectors of one length"),
        ([1], [3], [5], "are none of its input's"),
        ([1, 1], [3, 3], [1, -3], "are none of its input's"),
    ],
)
def test_slices_that_say_too_little_are_no_views(writer, starts, ends, axes, message) -> None:
    w = writer(shape=(4, 6, 5))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 4, 1, 1))), 2**-3)
    y = w.node("Slice", y, *(w.constant(np.array(part)) for part in (starts, ends, axes)))
    y = w.node("Conv", w.quantised(y), w.integers(w.sparse(3, 2, 1, 1)))
    path = w.save(w.quantised(y, 2**-3), "A", "B", "C")
    with pytest.raises(CompileError, match=message):
        import_model(path)


def test_integers_are_padded_with_their_zero(writer) -> None:
    w = writer(shape=(3, 20))
    numbers = w.constant(np.float32(2**-4)), w.constant(np.uint8(7))
    y = w.node("QuantizeLinear", "x", *numbers)
    y = w.node("Pad", y, w.constant(np.array([0, 0, 2, 0, 0, 0])), w.constant(np.uint8(7)))
    y = w.node("Conv", w.node("DequantizeLinear", y, *numbers), w.integers(w.sparse(5, 3, 3)))
    compiled = judged(w.save(w.quantised(y, 2**-3), 5, 20))
    assert places(compiled) == ["overlay"]


@pytest.mark.parametrize("zero", [0, 5])
def test_integers_of_unknown_zero_are_not_padded(writer, zero: int) -> None:
    w = writer(shape=(3, 20), dtype="uint8")
    y = w.node("Pad", "x", w.constant(np.array([0, 0, 2, 0, 0, 0])), w.constant(np.uint8(0)))
    numbers = w.constant(np.float32(2**-4)), w.constant(np.uint8(zero))
    y = w.node("Conv", w.node("DequantizeLinear", y, *numbers), w.integers(w.sparse(5, 3, 3)))
    compiled = judged(w.save(w.quantised(y, 2**-3), 5, 20))
    assert places(compiled) == ["host", "overlay"]
