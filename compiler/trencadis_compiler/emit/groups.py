"""Groups: the order in which the sums of a layer's channels come out of the array."""

from trencadis_compiler.mapping.plan import LayerPlan

__all__ = ["requantiser_groups"]


def requantiser_groups(plan: LayerPlan) -> list[list[int | None]]:
    """The channels of every requantiser group of a vector, in the order they come."""
    config = plan.config
    groups: list[list[int | None]] = []
    for number in range(plan.tile_rounds):
        first = number * plan.tiles_per_round
        tiles = plan.packing.tiles[first : first + plan.tiles_per_round]
        for beat in range(plan.beats):
            channels: list[int | None] = [None] * (plan.groups * config.requantisers)
            for position, tile in enumerate(tiles):
                if config.routing == "banked":
                    if beat < len(tile):
                        channels[position] = tile[beat]
                else:
                    for kernel, channel in enumerate(tile):
                        channels[position * config.kernels_per_tile + kernel] = channel
            for i in range(plan.groups):
                groups.append(channels[i * config.requantisers : (i + 1) * config.requantisers])
    return groups
