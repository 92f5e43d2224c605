"""Fields of the device's formats, as a layer's plan has them."""

from trencadis_compiler.mapping.addresses import map_size
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_format.layer_tables import EMIT, SEQUENCE, SLOT
from trencadis_format.records import Record

__all__ = ["exceeds_formats"]


def exceeds_formats(plan: LayerPlan) -> str | None:
    """The first field that a plan's numbers do not fit, wherever the layer is placed.

    Returns
    -------
    str or None
        The field with its rule and value; None if all fit.
    """
    layer, dense = plan.layer, plan.reading is Reading.DENSE
    _, width = layer.padded_shape
    pitch = plan.feed.channels if dense else plan.pitch
    step = width * pitch
    down, right = layer.stride
    beside = 2 if plan.paired else 1
    size = map_size(plan)
    _, rows, columns = layer.out_shape
    found = _exceeded(
        SEQUENCE,
        elem_x=beside * right * pitch,
        elem_y=down * step,
        pos_x=right * layer.pool.stride[1] * pitch,
        pos_y=down * layer.pool.stride[0] * step,
        pool_w=layer.pool.kernel[1] // beside - 1,
        pool_h=layer.pool.kernel[0] - 1,
        out_w=columns - 1,
        out_h=rows - 1,
        passes=plan.tile_rounds - 1,
        slots=plan.slots - 1,
        entries=plan.entries - 1,
        in_step=size,
        interval=plan.interval - 1,
        tail=plan.tail,
        beats=plan.beats - 1,
        pass_rows=plan.slots * plan.block,
    )
    if dense:
        # The last position of the window. Those of lists lie within what a lane keeps.
        below, across = (
            (size - 1) * dilation
            for size, dilation in zip(layer.weights.shape[2:], layer.dilation, strict=True)
        )
        farthest = (below * width + across + (beside - 1) * right) * pitch
        found = found or _exceeded(SLOT, offset=farthest)
    else:
        top, left, _, _ = layer.padding
        address = (top * width + left) * pitch
        found = found or _exceeded(
            EMIT,
            address=address,
            pitch=pitch,
            row_step=step,
            size=size,
            width=plan.feed.columns - 1,
            height=plan.feed.rows - 1,
        )
    return found


def _exceeded(record: Record, **values: int) -> str | None:
    for field in record.fields:
        value = values.get(field.name)
        if value is not None and not field.low <= value <= field.high:
            return f"{record.name}.{field.name} must be in {field.low}..{field.high}, not {value}"
    return None
