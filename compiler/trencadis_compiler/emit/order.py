"""Tables that put a vector's channels in order: scatter and gather."""

from collections.abc import Iterator

from trencadis_compiler.emit.colouring import colour_edges
from trencadis_compiler.emit.groups import requantiser_groups
from trencadis_compiler.mapping.place import PlacedLayer
from trencadis_format.image import Block, Target
from trencadis_format.layer_tables import gather_record, scatter_record

__all__ = ["order_blocks"]


def order_blocks(placed: PlacedLayer) -> Iterator[Block]:
    """Scatter and gather tables: a bank a channel, all different in a group and in a row."""
    plan = placed.plan
    requantisers = plan.config.requantisers
    groups = requantiser_groups(plan)
    edges, channels = [], []
    for number, group in enumerate(groups):
        for column, channel in enumerate(group):
            if channel is not None:
                edges.append((number, channel // requantisers))
                channels.append((number, column, channel))
    banks = colour_edges(edges, requantisers)

    scatter_row = scatter_record(requantisers)
    gather_row = gather_record(requantisers)
    scatter = [dict.fromkeys((f.name for f in scatter_row.fields), 0) for _ in groups]
    gather = [
        dict.fromkeys((f.name for f in gather_row.fields), 0) for _ in range(placed.vector_rows)
    ]
    for (number, column, channel), bank in zip(channels, banks, strict=True):
        row, place = divmod(channel, requantisers)
        scatter[number] |= {f"source{bank}": column, f"row{bank}": row, f"valid{bank}": 1}
        gather[row][f"bank{place}"] = bank
    yield Block(
        Target.SCATTER,
        [scatter_row.pack(**row) for row in scatter],
        scatter_row.bits,
        engine=placed.engine,
        start=placed.requantise_base,
    )
    yield Block(
        Target.GATHER,
        [gather_row.pack(**row) for row in gather],
        gather_row.bits,
        engine=placed.engine,
        start=placed.gather_base,
    )
