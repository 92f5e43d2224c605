"""BERT's encoder of known shapes with random sparse weights."""

import math

import numpy as np
import onnx
from onnx import TensorProto

from trencadis_bench.large.draft import Draft, Real

__all__ = ["bert_base"]

LABELS = 2

MASKED = -10000.0
"""Added to the logits of tokens that are padding."""


def bert_base(
    *,
    tokens: int = 128,
    layers: int = 12,
    width: int = 768,
    heads: int = 12,
    vocabulary: int = 30522,
    sparsity: float = 0.9,
    seed: int = 4,
) -> onnx.ModelProto:
    """BERT (Devlin et al. 2019) with a layer to two classes; GELU and LayerNorm in float.

    Parameters
    ----------
    tokens, layers, width, heads, vocabulary : int
        Sizes; those of BERT-base by default.
    sparsity : float
        Part of the weights of each layer that is zero, anywhere; embeddings are dense.
    seed : int
        Seed of the weights.
    """
    draft = Draft(seed, sparsity)
    ids = draft.input("input_ids", (1, tokens), TensorProto.INT64)
    mask = draft.input("attention_mask", (1, tokens), TensorProto.INT64)
    x = _embedded(draft, ids, tokens, width, vocabulary)
    hidden = _additive_mask(draft, mask)
    for _ in range(layers):
        attended = _attention(draft, x, hidden, heads)
        x = _normalised(draft, draft.added(x, attended))
        wide = _gelu(draft, draft.projection(x, 4 * width))
        narrow = draft.quantised(draft.projection(wide, width))
        x = _normalised(draft, draft.added(x, narrow))
    first = draft.node("Gather", x.name, draft.constant(0, np.int64), axis=1)
    pooled = draft.linear(Real(first, (1, width), x.size, x.scale), width)
    squashed = draft.quantised(Real(draft.node("Tanh", pooled.name), (1, width), 0.25))
    return draft.model("bert_base", [draft.quantised(draft.linear(squashed, LABELS))])


def _embedded(draft: Draft, ids: Real, tokens: int, width: int, vocabulary: int) -> Real:
    table = draft.rng.integers(-127, 128, (vocabulary, width), np.int8)
    scale, zero = draft.constant(1 / 64, np.float32), draft.constant(0, np.int8)
    words = draft.node("DequantizeLinear", draft.constant(table, np.int8), scale, zero)
    looked_up = draft.node("Gather", words, ids.name)
    places = draft.constant(draft.rng.normal(0, 0.3, (1, tokens, width)), np.float32)
    total = Real(draft.node("Add", looked_up, places), (1, tokens, width), 1.2)
    return _normalised(draft, total)


def _additive_mask(draft: Draft, mask: Real) -> str:
    """Mask that is added to logits, shape (1, 1, 1, tokens): zero, or a large negative number."""
    axes = draft.constant([1, 2], np.int64)
    wide = draft.node("Unsqueeze", mask.name, axes)
    real = draft.node("Cast", wide, to=TensorProto.FLOAT)
    hidden = draft.node("Sub", draft.constant(1, np.float32), real)
    return draft.node("Mul", hidden, draft.constant(MASKED, np.float32))


def _attention(draft: Draft, x: Real, hidden: str, heads: int) -> Real:
    _, tokens, width = x.shape
    each = width // heads
    split = draft.constant([1, tokens, heads, each], np.int64)

    def part(order: list[int]) -> str:
        real = draft.quantised(draft.projection(x, width)).name
        return draft.node("Transpose", draft.node("Reshape", real, split), perm=order)

    query, key, value = part([0, 2, 1, 3]), part([0, 2, 3, 1]), part([0, 2, 1, 3])
    shape = (1, heads, tokens, tokens)
    product = draft.node("MatMul", query, key)
    scaled = draft.node("Div", product, draft.constant(math.sqrt(each), np.float32))
    logits = draft.node("Add", scaled, hidden)
    likely = draft.node("Softmax", logits, axis=-1)
    weights = draft.quantised(Real(likely, shape, 0.05), positive=True)
    mixed = draft.node("MatMul", weights.name, value)
    together = draft.node("Transpose", mixed, perm=[0, 2, 1, 3])
    whole = draft.constant([1, tokens, width], np.int64)
    merged = draft.node("Reshape", together, whole)
    quantised = draft.quantised(Real(merged, x.shape, 0.3))
    return draft.quantised(draft.projection(quantised, width))


def _normalised(draft: Draft, x: Real) -> Real:
    width = x.shape[-1]
    gain = draft.constant(draft.rng.uniform(0.8, 1.2, width), np.float32)
    shift = draft.constant(draft.rng.normal(0, 0.1, width), np.float32)
    name = draft.node("LayerNormalization", x.name, gain, shift, axis=-1, epsilon=1e-12)
    return draft.quantised(Real(name, x.shape, 1.0))


def _gelu(draft: Draft, x: Real) -> Real:
    """GELU as exporters write it: x / 2 * (1 + erf(x / sqrt 2))."""
    quantised = draft.quantised(x)
    root = draft.constant(math.sqrt(2), np.float32)
    error = draft.node("Erf", draft.node("Div", quantised.name, root))
    raised = draft.node("Add", error, draft.constant(1, np.float32))
    product = draft.node("Mul", quantised.name, raised)
    name = draft.node("Mul", product, draft.constant(0.5, np.float32))
    return draft.quantised(Real(name, x.shape, 0.7 * x.size))
