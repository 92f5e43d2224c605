"""Refusals: what no layer can do is named in one line, with a remedy."""

from typing import Any

import numpy as np
import pytest

from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError


def test_all_unsupported_operators_are_named(writer) -> None:
    w = writer(shape=(20,))
    y = w.node("Softmax", w.node("MatMul", w.quantised("x"), w.integers(w.sparse(20, 20))))
    y = w.node("Softmax", w.node("Add", w.node("Erf", y), y))
    with pytest.raises(CompileError) as error:
        import_model(w.save(y, 20))
    message = str(error.value)
    for name in ("Softmax 'Softmax4', 'Softmax7'", "Erf 'Erf5'", "Add 'Add6'"):
        assert name in message
    assert message.count("\n") == 0
    assert "remove them, or apply them on the host" in message


def test_operators_of_the_other_format_have_their_own_remedy(writer) -> None:
    w = writer(shape=(20,))
    with pytest.raises(CompileError, match=r"quantise with QuantFormat\.QDQ"):
        import_model(w.save(w.node("QGemm", "x", domain="com.microsoft"), 20))


def conv(w: Any, x: str, **attributes: Any) -> str:
    return w.node("Conv", x, w.integers(w.sparse(4, 2, 3, 3)), **attributes)


def layer(w: Any, **attributes: Any) -> str:
    return w.quantised(conv(w, w.quantised("x"), **attributes), 2**-3)


REFUSED = {
    "squeeze": (
        lambda w: w.quantised(w.node("Squeeze", layer(w))),
        "squeezes every axis of size 1, the batch's too where that is 1; give it axes",
    ),
    "float input": (lambda w: conv(w, "x"), "its input is not quantised; quantise the model"),
    "float weights": (
        lambda w: w.node("Conv", w.quantised("x"), w.constant(np.ones((4, 2, 3, 3), np.float32))),
        "its weights are not quantised; quantise the model",
    ),
    "padded pooling": (
        lambda w: w.node("MaxPool", layer(w), kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        "padded pooling is not supported; pad the map, or pool without",
    ),
    "ceil mode": (
        lambda w: w.node("MaxPool", layer(w), kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1),
        "windows that reach over the edge",
    ),
    "average at the edge": (
        lambda w: w.node("AveragePool", layer(w), kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        r"averages at the edge are of fewer values \(count_include_pad is 0\); set it to 1",
    ),
    "average in ceil mode": (
        lambda w: w.node("AveragePool", layer(w), kernel_shape=[4, 4], ceil_mode=1),
        "ceil_mode and dilations are not supported",
    ),
    "mean of channels": (
        lambda w: w.node("ReduceMean", layer(w), axes=[1]),
        r"takes the mean over axes \[1\]; the overlay averages over positions, axes \[2, 3\]",
    ),
    "mean of all": (
        lambda w: w.node("ReduceMean", layer(w)),
        "takes the mean over axes all; the overlay averages over positions",
    ),
    "average of what is not quantised": (
        lambda w: w.node("GlobalAveragePool", conv(w, w.quantised("x"))),
        "its input is not quantised; quantise the model",
    ),
    "dilated pooling": (
        lambda w: w.node("MaxPool", layer(w), kernel_shape=[2, 2], dilations=[2, 2]),
        "dilated pooling is not supported",
    ),
    "large pool": (
        lambda w: w.node("MaxPool", layer(w), kernel_shape=[9, 9]),
        "its window of 9 is larger than the 6 numbers on axis 2, padding included",
    ),
    "pooled input": (
        lambda w: conv(w, w.node("MaxPool", w.quantised("x"), kernel_shape=[2, 2])),
        "pools a tensor that no layer before it makes",
    ),
    "relu on input": (
        lambda w: conv(w, w.quantised(w.node("Relu", "x"))),
        "on a tensor that no layer before it makes",
    ),
    "window too large": (
        lambda w: w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 9, 9))),
        "its window of 9 is larger than the 8 numbers on axis 2, padding included",
    ),
    "channels": (
        lambda w: w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 3, 3, 3))),
        r"kernels \[4, 3, 3, 3\] in 1 groups do not fit 2 channels",
    ),
    "too many groups": (
        lambda w: w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)), group=3),
        "in 3 groups do not fit",
    ),
    "dilation": (
        lambda w: conv(w, w.quantised("x"), dilations=[0, 1]),
        r"dilations is \[0, 1\]; it needs a positive number an axis",
    ),
    "negative pads": (
        lambda w: conv(w, w.quantised("x"), pads=[-1, 0, 0, 0]),
        r"pads are \[-1, 0, 0, 0\]; they must not be negative",
    ),
    "huge pads": (
        lambda w: conv(w, w.quantised("x"), pads=[1 << 30] * 4),
        "at most 8 are computed: give the model smaller inputs",
    ),
    "auto_pad": (
        lambda w: conv(w, w.quantised("x"), auto_pad="WHATEVER"),
        "auto_pad 'WHATEVER' is not one that ONNX has",
    ),
    "scale": (
        lambda w: conv(w, w.quantised("x", float("nan"))),
        "its scale 'c0' is nan; calibrate and export",
    ),
    "scales of activations": (
        lambda w: conv(w, w.quantised("x", [0.5, 0.25], [0, 0])),
        "activations need one scale for the whole tensor",
    ),
    "16 bits": (
        lambda w: conv(w, w.quantised("x", 0.5, 0, np.int16)),
        "does not take tensor.int16. as input 2",
    ),
    "weight range": (
        lambda w: w.node(
            "Conv", w.quantised("x"), w.integers(np.full((4, 2, 3, 3), 200), dtype=np.uint8)
        ),
        r"weights less their zero point are in 0..200; the overlay takes int8",
    ),
    "number of scales": (
        lambda w: w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3), [1.0, 2.0])),
        "2 scales for axis 0 of a tensor of shape",
    ),
    "scales of inputs": (
        lambda w: w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3), [1.0, 2.0], 1)),
        "2 weight scales for 4 kernels; the overlay takes one for all or one per kernel",
    ),
    "bias size": (
        lambda w: w.node(
            "Conv",
            w.quantised("x"),
            w.integers(w.sparse(4, 2, 3, 3)),
            w.constant([1.0, 2.0], np.float32),
        ),
        "2 biases for 4 kernels",
    ),
    "bias not finite": (
        lambda w: w.node(
            "Conv",
            w.quantised("x"),
            w.integers(w.sparse(4, 2, 3, 3)),
            w.constant([1, 2, np.nan, 3], np.float32),
        ),
        "its bias must be of finite real numbers",
    ),
    "input quantised twice": (
        lambda w: conv(w, w.quantised(w.quantised("x"), 2**-3)),
        "the input is quantised twice; quantise it once",
    ),
    "other scale": (
        lambda w: conv(w, requantised(w)),
        "the input is quantised with scale .* but dequantised with",
    ),
    "function on sums": (
        lambda w: w.quantised(w.node("Sigmoid", conv(w, w.quantised("x")))),
        "is applied to sums that are not quantised; quantise its input as well",
    ),
    "function at the end": (
        lambda w: w.node("Sigmoid", layer(w)),
        "Sigmoid.* is not followed by a quantisation; quantise its output",
    ),
    "bias on quantised": (
        lambda w: w.node("Add", layer(w), w.constant(1, np.float32)),
        "on activations that are quantised already",
    ),
    "bias on input": (
        lambda w: conv(w, w.quantised(w.node("Add", "x", w.constant(1, np.float32)))),
        "on a tensor that no layer before it makes",
    ),
    "constant for every position": (
        lambda w: w.node("Add", conv(w, w.quantised("x")), w.constant(np.ones(6), np.float32)),
        "it needs one number for each channel, or one for all",
    ),
    "constant first": (
        lambda w: w.node("Div", w.constant(1, np.float32), conv(w, w.quantised("x"))),
        "its first input is a constant; exchange the two",
    ),
    "division": (
        lambda w: w.node("Div", conv(w, w.quantised("x")), w.constant(0, np.float32)),
        "divides by zero",
    ),
    "negative factor on a pool": (
        lambda w: w.node(
            "Mul",
            w.node("MaxPool", conv(w, w.quantised("x")), kernel_shape=[2, 2]),
            w.constant(-1, np.float32),
        ),
        "multiplies what is pooled by negative numbers",
    ),
    "cast": (
        lambda w: conv(w, w.node("Cast", w.node("Cast", w.quantised("x"), to=10), to=1)),
        "casts to ONNX's type 10, which changes numbers",
    ),
    "reshape": (
        lambda w: w.node("Reshape", layer(w), w.constant([0, 36, 4], np.int64)),
        "keeps maps as channels, rows and columns, or flattens them",
    ),
    "reshape of all samples": (
        lambda w: w.node("Reshape", layer(w), w.constant([1, -1], np.int64)),
        r"makes one of all samples \(\['N', 4, 6, 6\] to \[1, 144\]\); keep the batch axis",
    ),
    "flattening of all samples": (
        lambda w: w.node("Flatten", layer(w), axis=0),
        "makes one of all samples",
    ),
    "reshape size": (
        lambda w: w.node("Reshape", layer(w), w.constant([0, 7], np.int64)),
        r"reshapes \[1, 4, 6, 6\] to \[1, 7\], which has another size",
    ),
    "matrix on a map": (
        lambda w: w.node("MatMul", layer(w), w.integers(w.sparse(6, 5))),
        "flatten it to two axes first",
    ),
    "matrix size": (
        lambda w: w.node("MatMul", w.node("Flatten", layer(w)), w.integers(w.sparse(6, 5))),
        "weights for 6 inputs, but 144 activations",
    ),
    "second output": (
        lambda w: w.nodes("MaxPool", 2, layer(w), kernel_shape=[2, 2])[1],
        "only its first output may be used|does not come from",
    ),
    "no layer": (lambda w: w.quantised("x"), "does not come from a convolution"),
    "clip bounds": (
        lambda w: w.quantised(
            w.node("Clip", layer(w), w.constant(2, np.float32), w.constant(1, np.float32))
        ),
        r"clips to 2\.0\.\.1\.0",
    ),
}


def requantised(w: Any) -> str:
    zero = w.constant(0, np.int8)
    quantised = w.node("QuantizeLinear", "x", w.constant(0.5, np.float32), zero)
    return w.node("DequantizeLinear", quantised, w.constant(0.25, np.float32), zero)


def test_branches_are_refused(writer) -> None:
    # One layer's output read by two layers, of which the second alone reaches the output.
    w = writer()
    y = layer(w)
    k = w.top_k(y, 2, axis=1)[0]
    y = w.node("Conv", y, w.integers(w.sparse(4, 4, 1, 1)))
    path = w.save(w.node("Add", w.quantised(y, 0.5), k), 4, 6, 6)
    with pytest.raises(CompileError, match="unsupported operators: TopK 'TopK6'; Add 'Add11'"):
        import_model(path)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(writer, name) -> None:
    build, message = REFUSED[name]
    w = writer()
    with pytest.raises(CompileError, match=message) as error:
        import_model(w.save(build(w), "A", "B", "C"))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(w.save(build(w), 1)).split("net.onnx")[0])
