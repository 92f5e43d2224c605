"""Sizes of inputs: what the model leaves open is bound by what the user says."""

from collections.abc import Iterable, Mapping

import onnx

from trencadis_compiler.importer.reading.draft import Draft

__all__ = ["bind_input_shapes", "check_sizes_known"]


def bind_input_shapes(draft: Draft, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give inputs the shapes that were asked for; a size with a name is bound everywhere.

    Raises
    ------
    CompileError
        If an input does not exist, has another rank, or another size where it is not open.
    """
    inputs = {value.name: value for value in draft.graph.input}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise draft.refusal(
                f"--input-shape {name}: no such input; the model has {_listed(inputs)}"
            )
        _bind(draft, inputs[name], shape, sizes)
    if not sizes:
        return
    for value in (*draft.graph.input, *draft.graph.output, *draft.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _bind(
    draft: Draft, value: onnx.ValueInfoProto, shape: tuple[int, ...], sizes: dict[str, int]
) -> None:
    text = "x".join(map(str, shape))
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        kind.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in shape)
    dims = kind.shape.dim
    if len(dims) != len(shape):
        raise draft.refusal(
            f"--input-shape {value.name}={text}: the input has {len(dims)} dimensions, "
            f"not {len(shape)}"
        )
    for axis, (dim, size) in enumerate(zip(dims, shape, strict=True)):
        if size < 1:
            raise draft.refusal(
                f"--input-shape {value.name}={text}: sizes are 1 or more, not {size}"
            )
        known = dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        known = sizes.get(dim.dim_param, known)
        if known is not None and known != size:
            raise draft.refusal(
                f"--input-shape {value.name}={text}: axis {axis} is {known} in the model, "
                f"not {size}"
            )
        if dim.dim_param:
            sizes[dim.dim_param] = size
        dim.dim_value = size


def check_sizes_known(draft: Draft) -> None:
    """Refuse an input whose sizes are open on other axes than the first, or zero.

    Raises
    ------
    CompileError
        If there is such an input; the line has the option that would bind it.
    """
    for value in draft.graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            continue
        kind = value.type.tensor_type
        if not kind.HasField("shape"):
            raise draft.refusal(
                f"input {value.name!r} has no shape; give it with --input-shape "
                f"{value.name}=1x3x224x224, say"
            )
        batches = {dims.dim[0].dim_param for dims in _input_shapes(draft) if len(dims.dim)} - {""}
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0:
                raise draft.refusal(
                    f"input {value.name!r} has size 0 on axis {axis}; export the model with sizes "
                    "of 1 or more, or give them with --input-shape"
                )
            if _is_open(dim) and axis and dim.dim_param not in batches:
                example = "x".join(
                    str(d.dim_value) if not _is_open(d) else ("1" if not i else d.dim_param or "?")
                    for i, d in enumerate(kind.shape.dim)
                )
                raise draft.refusal(
                    f"input {value.name!r}: its size on axis {axis} is open "
                    f"({dim.dim_param or 'unnamed'}); give it with "
                    f"--input-shape {value.name}={example}, with numbers"
                )


def _input_shapes(draft: Draft) -> list[onnx.TensorShapeProto]:
    return [value.type.tensor_type.shape for value in draft.graph.input]


def _is_open(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return not dim.HasField("dim_value") or dim.dim_value < 0


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
