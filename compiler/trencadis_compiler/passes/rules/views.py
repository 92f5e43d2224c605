"""Pad, Slice, Split and Gather of maps, where a layer can read the map itself in their place.

Zeros around a map are the padding of the convolution that reads it; channels that are left out are
zeros in its kernels. Of the sums of a layer that nobody else reads, the kernels that are left out
are not computed at all.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trencadis_compiler.importer.graph import Node
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.passes.base.context import Context
from trencadis_compiler.passes.base.operator import Operator, integer, integers, real, text
from trencadis_compiler.passes.base.state import ActivationMap, State, Unsupported, View
from trencadis_compiler.passes.rules.constants import folded
from trencadis_compiler.passes.rules.quantisers import REAL

__all__ = ["OPERATORS", "spread", "through_view"]

Padding = tuple[tuple[int, int], ...]

MAX_OUTPUTS = 1 << 10
"""Outputs of a Split at most."""

MIN_WEIGHT, MAX_WEIGHT = -128, 127


def through_view(source: ActivationMap) -> tuple[ActivationMap, tuple[int, ...] | None, Padding]:
    """The map that a tensor shows; which numbers of its first axis; zeros around it."""
    view = source.view
    if view is None:
        return source, None, ((0, 0),) * len(source.axes)
    whole = view.before
    if whole.draft is None:
        # A source may have been quantised since: zero is zero before and after.
        whole = replace(whole, quantisation=source.quantisation, functions=source.functions)
    return whole, view.picked, view.padding


def spread(node: Node, kernels: Kernels, picked: tuple[int, ...] | None, size: int) -> Kernels:
    """Weights of some channels as weights of all, zero elsewhere; of several the sum.

    Raises
    ------
    Unsupported
        If such a sum is no int8.
    """
    if picked is None:
        return kernels
    try:
        return kernels.spread(picked, size)
    except ValueError as error:
        text = "reads a channel twice, with weights that are no int8 together"
        raise Unsupported(node, text) from error


def _pad(context: Context, node: Node) -> State:
    source = context.map(node, views=True)
    if node.attributes.get("mode", "constant") != "constant":
        raise Unsupported(node, f"pads by mode {node.attributes['mode']!r}; the overlay has zeros")
    value = context.constant(node, 2)
    if value is None:
        value = np.array(node.attributes.get("value", 0.0))
    if source.quantisation is None and source.source.tensor.dtype not in REAL:
        raise Unsupported(node, "pads integers of which no zero point is known; do it on the host")
    zero = source.quantisation.zero_point if source.integer and source.quantisation else 0
    if np.any(value != zero):
        raise Unsupported(node, f"pads with {value.ravel()[0]}; the overlay has zeros")
    given = context.constant(node, 1)
    pads = np.ravel(node.attributes.get("pads", ()) if given is None else given).astype(int)
    axes = context.constant(node, 3)
    rank = len(source.axes) + 1
    numbers = [int(a) % rank for a in np.ravel(range(rank) if axes is None else axes)]
    if len(pads) != 2 * len(numbers):
        raise Unsupported(node, f"{len(pads)} pads for {len(numbers)} axes; export it again")
    _, picked, padding = through_view(source)
    extended, sizes = list(padding), dict(source.sizes)
    for axis, before, after in zip(numbers, pads, pads[len(numbers) :], strict=False):
        if not before and not after:
            continue
        if axis < 2 or before < 0 or after < 0:
            raise Unsupported(
                node,
                f"pads {list(map(int, pads))}; only positions can be padded, and nothing cut off",
            )
        first, last = extended[axis - 1]
        extended[axis - 1] = first + int(before), last + int(after)
        sizes[_letter(node, source, axis - 1)] += int(before) + int(after)
    return _view(node, source, picked, tuple(extended), sizes)


def _slice(context: Context, node: Node) -> State:
    if isinstance(context.state(node, 0), np.ndarray):
        return folded(context, node)
    names = ("starts", "ends", "axes")
    parts = [
        context.constant(node, number + 1)
        if len(node.inputs) > 1
        else np.array(node.attributes[name])
        if name in node.attributes
        else None
        for number, name in enumerate(names)
    ]
    starts, ends, axes = parts
    steps = context.constant(node, 4)
    if starts is None or ends is None:
        raise Unsupported(node, "it has no starts or ends; export the model again")
    given = [part for part in (starts, ends, axes, steps) if part is not None]
    if any(p.ndim != 1 or p.dtype.kind not in "iu" or p.size != starts.size for p in given):
        raise Unsupported(node, "its starts, ends, axes and steps are not vectors of one length")
    shape = (1, *context.map(node, views=True).shape)
    axes = np.arange(starts.size) if axes is None else axes
    numbers = [int(axis) % len(shape) for axis in axes]
    inside = bool(np.all((axes >= -len(shape)) & (axes < len(shape))))
    if not inside or len(set(numbers)) < len(numbers) or (steps is not None and 0 in steps):
        raise Unsupported(node, f"its axes {axes.tolist()} or steps are none of its input's")
    slices = [slice(None)] * len(shape)
    for number, axis in enumerate(numbers):
        step = 1 if steps is None else int(steps[number])
        first, last = int(starts[number]), int(ends[number])
        # ONNX has no None: what ends before the first number does so by a large negative end.
        slices[axis] = slice(first, None if step < 0 and last < -shape[axis] else last, step)
    ranges = [range(size)[part] for size, part in zip(shape, slices, strict=True)]
    return _picked_axis(context, node, ranges)


def _gather(context: Context, node: Node) -> State:
    if isinstance(context.state(node, 0), np.ndarray):
        return folded(context, node)
    indices, axis = context.constant(node, 1), int(node.attributes.get("axis", 0))
    if indices is None:
        raise Unsupported(node, "it has no indices; export the model again")
    source = context.map(node, views=True)
    rank = len(source.axes) + 1
    if axis not in (1, 1 - rank) or indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise Unsupported(node, "takes single positions; only channels can be left out")
    size = source.shape[0]
    if np.any((indices < -size) | (indices >= size)):
        raise Unsupported(node, f"its indices are not all of {size} channels")
    return _pick(node, source, [int(index) % size for index in indices])


def _split(context: Context, node: Node) -> tuple[State, ...]:
    source = context.map(node, views=True)
    rank = len(source.axes) + 1
    if int(node.attributes.get("axis", 0)) % rank != 1:
        raise Unsupported(node, "splits positions; only channels can be left out")
    given = context.constant(node, 1)
    sizes = np.ravel(node.attributes.get("split", ()) if given is None else given).astype(int)
    total, count = source.shape[0], len(node.outputs)
    if not len(sizes):
        part = -(-total // count)
        sizes = np.array([part] * (count - 1) + [total - part * (count - 1)])
    if len(sizes) != count or sizes.sum() != total or sizes.min() < 1:
        raise Unsupported(node, f"splits {total} channels into {list(map(int, sizes))}")
    ends = np.cumsum(sizes)
    return tuple(
        _pick(node, source, range(int(end - size), int(end)))
        for size, end in zip(sizes, ends, strict=True)
    )


def _picked_axis(context: Context, node: Node, ranges: Sequence[range]) -> State:
    """Take some numbers of each axis of a map, the batch included."""
    source = context.map(node, views=True)
    if len(ranges[0]) != 1 or any(
        part != range(size) for part, size in zip(ranges[2:], source.shape[1:], strict=True)
    ):
        raise Unsupported(node, "takes some positions; only channels can be left out")
    if not len(ranges[1]):
        raise Unsupported(node, "takes nothing of its input")
    return _pick(node, source, ranges[1])


def _pick(node: Node, source: ActivationMap, indices: Sequence[int]) -> ActivationMap:
    """A map's channels, or a vector's numbers."""
    letter = _letter(node, source, 0)
    sizes = source.sizes | {letter: len(indices)}
    draft = source.draft
    alone = source.view is None and len(node.outputs) == 1
    if draft is not None and draft.winners is None and alone and letter == "C":
        chosen = list(indices)
        fewer = replace(
            draft,
            weights=draft.weights.chosen(chosen),
            weight_scale=tuple(draft.weight_scale[i] for i in chosen),
            bias=tuple(draft.bias[i] for i in chosen),
        )
        return replace(source, sizes=sizes, draft=fewer)
    _, picked, padding = through_view(source)
    picked = tuple(indices) if picked is None else tuple(picked[i] for i in indices)
    return _view(node, source, picked, padding, sizes)


def _view(
    node: Node,
    source: ActivationMap,
    picked: tuple[int, ...] | None,
    padding: Padding,
    sizes: dict[str, int],
) -> ActivationMap:
    before = source if source.view is None else source.view.before
    if before.draft is not None and (before.quantisation is None or before.functions):
        raise Unsupported(node, "pads or cuts a map that is not quantised; quantise its input")
    return replace(source, sizes=sizes, view=View(before, picked, padding))


def _letter(node: Node, source: ActivationMap, axis: int) -> str:
    letters = source.axes[axis]
    if len(letters) != 1:
        raise Unsupported(node, "its input is a flattened map; take the part before flattening")
    return letters


_AXIS = integer()

OPERATORS = {
    "Gather": Operator(_gather, (2, 2), {"axis": _AXIS}),
    "Pad": Operator(_pad, (1, 4), {"mode": text(), "pads": integers(), "value": real()}),
    "Slice": Operator(
        _slice, (1, 5), {"axes": integers(), "ends": integers(), "starts": integers()}
    ),
    "Split": Operator(
        _split,
        (1, 2),
        {"axis": _AXIS, "num_outputs": integer(), "split": integers()},
        outputs=MAX_OUTPUTS,
    ),
}
