"""Parameters of the requantisers, each proved to be exact."""

from collections.abc import Iterator

from trencadis_compiler.emit.groups import requantiser_groups
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import reachable_sums
from trencadis_compiler.mapping.place import PlacedLayer
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_format.image import Block, Target
from trencadis_format.layer_tables import REQUANTISE, Ties
from trencadis_format.models.requantise_layer import ChannelError, layer_parameters

__all__ = ["requantise_blocks"]


def requantise_blocks(placed: PlacedLayer) -> Iterator[Block]:
    """A row per group of channels and requantiser.

    Raises
    ------
    CompileError
        If a requantisation cannot be exact.
    """
    plan = placed.plan
    parameters = _parameters(plan)
    unused = REQUANTISE.pack(multiplier=0, offset=0, shift=0, ties=Ties.FLOOR)
    groups = requantiser_groups(plan)
    for i in range(plan.config.requantisers):
        yield Block(
            Target.REQUANTISE,
            [
                unused if channel is None else parameters[channel]
                for channel in (group[i] for group in groups)
            ],
            REQUANTISE.bits,
            engine=placed.engine,
            unit=i,
            start=placed.requantise_base,
        )


def _parameters(plan: LayerPlan) -> list[int]:
    """The record of every channel, by channel."""
    layer = plan.layer
    assert layer.requantised is not None
    least, most = reachable_sums(layer, plan.feed.survivors)
    zero = layer.requantised.zero_key
    try:
        found = layer_parameters(layer.real_keys, layer.low, layer.high, zero, least, most)
    except ChannelError as error:
        raise CompileError(f"layer {layer.name!r}, {error}") from error
    return [REQUANTISE.pack(**vars(parameters)) for parameters in found]
