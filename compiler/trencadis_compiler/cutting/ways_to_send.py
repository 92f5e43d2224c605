"""Ways in which a network's input may be sent: all values, or lists of them."""

from collections.abc import Iterator
from dataclasses import replace

from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.chain import chain_of
from trencadis_format.config import CoreConfig
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["ways_to_send"]


def ways_to_send(network: Network, core: CoreConfig) -> Iterator[Network]:
    """A network as it is, and with lists of all channels for a dense input.

    Where a window is one position, lanes share its channels if they come as a list; otherwise a
    dense input is as fast, and smaller.

    Parameters
    ----------
    network : Network
        A chain.
    core : CoreConfig
        The core that it is for.
    """
    yield network
    source = network.input
    channels = source.shape[0]
    if (
        source.nonzeros is None
        and core.sparse_input
        and chain_of(network)[0].weights.window == 1
        and core.engines[0].lanes > 1
        and channels <= 1 << INPUT_INDEX_BITS
    ):
        listed = replace(source, nonzeros=channels)
        values = tuple(listed if value is source else value for value in network.values)
        yield replace(network, values=values)
