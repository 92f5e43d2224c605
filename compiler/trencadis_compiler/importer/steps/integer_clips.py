"""Clip between QuantizeLinear and DequantizeLinear, as QCDQ files write narrow ranges."""

import numpy as np
import onnx

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["move_integer_clips"]


def move_integer_clips(draft: Draft) -> None:
    """Clip real numbers before QuantizeLinear in place of integers after it.

    Bounds are those that the integers stand for, so that the same integers result: quantising
    increases, and gives back each bound's integer. The clipped integers keep their name.
    """
    constants = draft.initialisers()
    producers = draft.producers()
    readers = draft.readers()
    outputs = draft.outputs()
    nodes = list(draft.graph.node)
    moved = False
    for place, clip in enumerate(nodes):
        source = producers.get(clip.input[0]) if clip.op_type == "Clip" and clip.input else None
        if source is None or source.op_type != "QuantizeLinear" or source.domain or clip.domain:
            continue
        integers = source.output[0]
        if len(readers[integers]) > 1 or integers in outputs:
            continue
        bounds = _real_bounds(draft, source, clip, constants)
        if bounds is None:
            continue
        clipped = draft.fresh(f"{clip.output[0]}_clipped")
        names = [
            "" if bound is None else draft.add_constant(f"{clip.output[0]}_bound", bound)
            for bound in bounds
        ]
        nodes[place] = onnx.NodeProto()
        nodes[place].CopyFrom(source)
        nodes[place].input[0] = clipped
        nodes[place].output[0] = clip.output[0]
        nodes[nodes.index(source)] = onnx.helper.make_node(
            "Clip", [source.input[0], *names], [clipped], clip.name
        )
        moved = True
    if moved:
        draft.set_nodes(nodes)


def _real_bounds(
    draft: Draft,
    quantise: onnx.NodeProto,
    clip: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
) -> tuple[np.float32 | None, np.float32 | None] | None:
    """The real numbers of a Clip's bounds; None if they cannot be told for a whole tensor."""
    names = [*quantise.input[1:], *clip.input[1:]]
    if any(name and name not in constants for name in names):
        return None
    scale = draft.array(constants[quantise.input[1]])
    zeros = [draft.array(constants[n]) for n in quantise.input[2:3] if n]
    if scale.size != 1 or scale.dtype != np.float32 or any(zero.size != 1 for zero in zeros):
        return None
    zero = int(zeros[0].reshape(())) if zeros else 0
    bounds: list[np.float32 | None] = []
    for number in (1, 2):
        name = clip.input[number] if len(clip.input) > number else ""
        if not name:
            bounds.append(None)
            continue
        integer = int(draft.array(constants[name]).reshape(()))
        real = np.float32(integer - zero) * np.float32(scale.reshape(()))
        back = np.rint(float(real) / float(scale.reshape(()))) + zero
        if not np.isfinite(real) or back != integer:
            return None
        bounds.append(np.float32(real))
    return bounds[0], bounds[1]
