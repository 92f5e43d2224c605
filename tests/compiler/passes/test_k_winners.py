from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_format.layer_tables import Selection

EXACT, THRESHOLD = Selection.EXACT, Selection.THRESHOLD


def last(w: Any, values: str, k: int, axis: int) -> str:
    """The k-th value, as `values[..., -1:]` is exported."""
    numbers = (w.constant([number], np.int64) for number in (-1, 2**63 - 1, axis, 1))
    return w.node("Slice", values, *numbers)


def where(w: Any, x: str, k: int, axis: int) -> str:
    values = w.top_k(x, k, axis=axis)[0]
    mask = w.node("GreaterOrEqual", x, last(w, values, k, axis))
    return w.node("Where", mask, x, w.constant(0, np.float32))


def where_by_index(w: Any, x: str, k: int, axis: int) -> str:
    values = w.top_k(x, k, axis=axis)[0]
    kth = w.node("Gather", values, w.constant([k - 1], np.int64), axis=axis)
    mask = w.node("LessOrEqual", kth, x)
    return w.node("Where", mask, x, w.constant(np.zeros((1, 1)), np.float32))


def product(w: Any, x: str, k: int, axis: int) -> str:
    values = w.top_k(x, k, axis=axis)[0]
    mask = w.node("GreaterOrEqual", x, last(w, values, k, axis))
    return w.node("Mul", x, w.node("Cast", mask, to=TensorProto.FLOAT))


def product_swapped(w: Any, x: str, k: int, axis: int) -> str:
    values = w.top_k(x, k, axis=axis)[0]
    mask = w.node("GreaterOrEqual", x, last(w, values, k, axis))
    return w.node("Mul", w.node("Cast", mask, to=TensorProto.FLOAT), x)


def zeros(w: Any, x: str) -> str:
    return w.node("ConstantOfShape", w.node("Shape", x))


def scatter(w: Any, x: str, k: int, axis: int) -> str:
    values, indices = w.top_k(x, k, axis=axis)
    return w.node("ScatterElements", zeros(w, x), indices, values, axis=axis)


def scatter_gathered(w: Any, x: str, k: int, axis: int) -> str:
    indices = w.top_k(x, k, axis=axis, sorted=0)[1]
    values = w.node("GatherElements", x, indices, axis=axis)
    return w.node("ScatterElements", zeros(w, x), indices, values, axis=axis)


def scatter_mask(w: Any, x: str, k: int, axis: int) -> str:
    indices = w.top_k(x, k, axis=axis)[1]
    ones = w.node(
        "ConstantOfShape",
        w.node("Shape", indices),
        value=numpy_helper.from_array(np.ones(1, np.float32)),
    )
    mask = w.node("ScatterElements", zeros(w, x), indices, ones, axis=axis)
    mask = w.node("Cast", mask, to=TensorProto.BOOL)
    zero = w.node("Expand", w.constant(0, np.float32), w.node("Shape", x))
    return w.node("Where", mask, x, zero)


PATTERNS = {
    where: THRESHOLD,
    where_by_index: THRESHOLD,
    product: THRESHOLD,
    product_swapped: THRESHOLD,
    scatter: EXACT,
    scatter_gathered: EXACT,
    scatter_mask: EXACT,
}


@pytest.fixture(params=PATTERNS, ids=lambda pattern: pattern.__name__)
def pattern(request) -> Any:
    return request.param


@pytest.fixture
def check(onnxruntime_outputs, reference_outputs):
    """Import, compare with onnxruntime in every bit, return the k-WTA of the first layer."""

    def run(path, shape):
        rng = np.random.default_rng(0)
        inputs = rng.normal(0, 3, (12, *shape)).astype(np.float32)
        network = import_model(path)
        expected = onnxruntime_outputs(path, inputs)
        assert np.array_equal(reference_outputs(network, inputs), expected)
        return network.layers[0].winners

    return run


def local(w: Any, scale: float = 2**-1, zero: int = -128) -> str:
    # A coarse scale: with few different keys there are ties in most positions.
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3)))
    return w.quantised(y, scale, zero)


@pytest.mark.parametrize("axis", [1, -3])
def test_local(writer, check, pattern, axis) -> None:
    w = writer()
    y = w.quantised(pattern(w, local(w), 4, axis), 2**-1, -128)
    winners = check(w.save(y, 12, 6, 6), (2, 8, 8))
    assert (winners.k, winners.selection, winners.whole) == (4, PATTERNS[pattern], False)


@pytest.mark.parametrize("axis", [1, -1])
def test_whole_layer(writer, check, pattern, axis) -> None:
    w = writer(shape=(40,))
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(40, 30))), 1.0)
    y = w.quantised(pattern(w, y, 5, axis), 1.0)
    y = w.node("MatMul", y, w.integers(w.sparse(30, 10)))
    winners = check(w.save(y, 10), (40,))
    assert (winners.k, winners.selection, winners.whole) == (5, PATTERNS[pattern], True)


def test_quantisers_between_all_nodes(writer, check, onnxruntime_outputs) -> None:
    # onnxruntime's quantiser puts them around TopK, Slice and Where.
    w = writer()
    x = local(w)
    values = w.quantised(w.top_k(x, 4, axis=1)[0], 2**-1, -128)
    kth = w.quantised(last(w, values, 4, 1), 2**-1, -128)
    y = w.node("Where", w.node("GreaterOrEqual", x, kth), x, w.constant(0, np.float32))
    winners = check(w.save(w.quantised(y, 2**-1, -128), 12, 6, 6), (2, 8, 8))
    assert winners.selection is THRESHOLD


def test_axes_of_both_signs(writer, check) -> None:
    w = writer(shape=(40,))
    y = w.quantised(w.node("MatMul", w.quantised("x"), w.integers(w.sparse(40, 30))), 1.0)
    values, indices = w.top_k(y, 5, axis=-1)
    y = w.quantised(w.node("ScatterElements", zeros(w, y), indices, values, axis=1), 1.0)
    y = w.node("MatMul", y, w.integers(w.sparse(30, 10)))
    assert check(w.save(y, 10), (40,)).selection is EXACT


@pytest.mark.parametrize("outer", ["Reshape", "Flatten"])
def test_selection_between_reshapes(writer, check, outer) -> None:
    # A map with one position is reshaped to two axes and back.
    w = writer(shape=(2, 3, 3))
    y = w.quantised(w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3))), 2**-1)
    flat = w.node(outer, y, *([w.constant([-1, 12], np.int64)] if outer == "Reshape" else []))
    y = w.node("Reshape", scatter(w, flat, 3, 1), w.constant([-1, 12, 1, 1], np.int64))
    y = w.node("Conv", w.quantised(y, 2**-1), w.integers(w.sparse(5, 12, 1, 1)))
    winners = check(w.save(y, 5, 1, 1), (2, 3, 3))
    assert (winners.k, winners.selection) == (3, EXACT)


# --- what is not k-WTA ----------------------------------------------------------------------------


def boosted(w: Any, x: str) -> str:
    ranked = w.node("Mul", x, w.constant(w.rng.random((12, 1, 1)), np.float32))
    values = w.top_k(ranked, 4, axis=1)[0]
    mask = w.node("GreaterOrEqual", ranked, last(w, values, 4, 1))
    return w.node("Where", mask, x, w.constant(0, np.float32))


def ranked_before_quantising(w: Any, x: str) -> str:
    """The k-th value is quantised, but what is compared with it is not."""
    sums = w.node("Relu", w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3))))
    y = w.quantised(sums, 2**-1, -128)
    kth = last(w, w.top_k(y, 4, axis=1)[0], 4, 1)
    return w.node("Where", w.node("GreaterOrEqual", sums, kth), y, w.constant(0, np.float32))


def into_a_larger_map(w: Any, x: str) -> str:
    """Zeros of another tensor's sizes: the scattered map is larger than what was ranked."""
    values, indices = w.top_k(x, 4, axis=1)
    larger = w.node("Concat", x, x, axis=1)
    return w.node("ScatterElements", zeros(w, larger), indices, values, axis=1)


def into_a_constant_of_other_sizes(w: Any, x: str) -> str:
    values, indices = w.top_k(x, 4, axis=1)
    base = w.constant(np.zeros((1, 24, 6, 6)), np.float32)
    return w.node("ScatterElements", base, indices, values, axis=1)


def indices_before_quantising(w: Any, x: str) -> str:
    """TopK ranks sums, among which there are fewer ties."""
    sums = w.node("Relu", w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3))))
    y = w.quantised(sums, 2**-1, -128)
    indices = w.top_k(sums, 4, axis=1)[1]
    values = w.node("GatherElements", y, indices, axis=1)
    return w.node("ScatterElements", zeros(w, y), indices, values, axis=1)


def smallest(w: Any, x: str) -> str:
    values, indices = w.top_k(x, 4, axis=1, largest=0)
    return w.node("ScatterElements", zeros(w, x), indices, values, axis=1)


def filled_with_ones(w: Any, x: str) -> str:
    values = w.top_k(x, 4, axis=1)[0]
    mask = w.node("GreaterOrEqual", x, last(w, values, 4, 1))
    return w.node("Where", mask, x, w.constant(1, np.float32))


def not_the_last(w: Any, x: str) -> str:
    values = w.top_k(x, 4, axis=1)[0]
    kth = w.node("Gather", values, w.constant([1], np.int64), axis=1)
    return w.node("Where", w.node("GreaterOrEqual", x, kth), x, w.constant(0, np.float32))


def strictly_greater(w: Any, x: str) -> str:
    values = w.top_k(x, 4, axis=1)[0]
    mask = w.node("Greater", x, last(w, values, 4, 1))
    return w.node("Where", mask, x, w.constant(0, np.float32))


def unsorted_last(w: Any, x: str) -> str:
    values = w.top_k(x, 4, axis=1, sorted=0)[0]
    mask = w.node("GreaterOrEqual", x, last(w, values, 4, 1))
    return w.node("Where", mask, x, w.constant(0, np.float32))


def other_scale_between(w: Any, x: str) -> str:
    values = w.quantised(w.top_k(x, 4, axis=1)[0], 2**-1)
    kth = w.quantised(last(w, values, 4, 1), 2**-2)
    return w.node("Where", w.node("GreaterOrEqual", x, kth), x, w.constant(0, np.float32))


@pytest.mark.parametrize(
    "build",
    [
        boosted,
        smallest,
        filled_with_ones,
        not_the_last,
        strictly_greater,
        unsorted_last,
        other_scale_between,
        ranked_before_quantising,
        indices_before_quantising,
        into_a_larger_map,
    ],
)
def test_not_matched(writer, build) -> None:
    w = writer()
    y = w.quantised(build(w, local(w)), 2**-1, -128)
    with pytest.raises(CompileError, match=r"unsupported operators: .*TopK"):
        import_model(w.save(y, 12, 6, 6))


REFUSED = {
    "filled": (
        lambda w: into_a_constant_of_other_sizes(w, local(w)),
        r"k-WTA of a map \['N', 12, 6, 6\] into zeros of sizes \[1, 24, 6, 6\]",
    ),
    "axis": (lambda w: scatter(w, local(w), 2, 2), "k-WTA over axis 2; the overlay selects among"),
    "axes": (
        lambda w: w.node("ScatterElements", zeros(w, y := local(w)), *flipped(w, y), axis=2),
        r"k-WTA selects along axes \[1, 2\] of 4, which are not the same",
    ),
    "k": (lambda w: scatter(w, local(w), 13, 1), r"k is 13; it must be in 1\.\.12"),
    "twice": (
        lambda w: scatter(w, scatter(w, local(w), 5, 1), 3, 1),
        "a second k-WTA on one layer; keep the one with fewer winners",
    ),
    "input": (
        lambda w: w.node(
            "Conv", scatter(w, w.quantised("x"), 1, 1), w.integers(w.sparse(3, 2, 1, 1))
        ),
        "k-WTA on a tensor that no layer before it makes",
    ),
    "sums": (
        lambda w: scatter(
            w, w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3))), 2, 1
        ),
        "k-WTA on activations that are not quantised; quantise its input",
    ),
    "pool": (
        lambda w: w.node("MaxPool", scatter(w, local(w), 3, 1), kernel_shape=[2, 2]),
        "pools after k-WTA; pool first, then select winners",
    ),
    "scale behind": (
        lambda w: w.quantised(scatter(w, local(w), 3, 1), 2**-2, -128),
        "activations are quantised anew after k-WTA",
    ),
}


def flipped(w: Any, x: str) -> list[str]:
    values, indices = w.top_k(x, 4, axis=1)
    return [indices, values]


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(writer, name) -> None:
    build, message = REFUSED[name]
    w = writer()
    with pytest.raises(CompileError, match=message):
        import_model(w.save(build(w), "A", "B", "C"))
