"""Feeds: the contents of layers' input maps."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trencadis_compiler.ir.network import Layer, Network
from trencadis_format.layer_tables import Selection

__all__ = ["Feed", "feeds_of"]

DEFAULT_DENSITY = 0.5
"""Part of the activations after a ReLU that is not zero, where no profile says better."""


@dataclass(frozen=True)
class Feed:
    """Contents of a layer's input map.

    Attributes
    ----------
    channels, rows, columns : int
        Channels, rows and columns of the map.
    dense : bool
        The map is the network's input with every channel present.
    entries : int
        Entries of a list: exactly that many, or at most if `exact` is false.
    exact : bool
        All lists have the same number of entries.
    expected : float
        Entries of a list on average.
    spread : bool
        Entries are spread over the channels, as winners are; those of an input may be neighbours.
    """

    channels: int
    rows: int
    columns: int
    dense: bool
    entries: int
    exact: bool
    expected: float
    spread: bool = True

    @property
    def survivors(self) -> int | None:
        """Channels of a position that are not zero, at most; None if all may be."""
        return self.entries if self.exact and not self.dense else None


def feeds_of(network: Network, density: Mapping[str, float]) -> dict[str, Feed]:
    """Contents of every layer's input map, by the value that the layer makes."""
    return {layer.target: _feed_of(layer, network, density) for layer in network.layers}


def _feed_of(layer: Layer, network: Network, density: Mapping[str, float]) -> Feed:
    channels, rows, columns = layer.in_shape
    producer = network.producer(layer.source)
    if producer is None:
        nonzeros = network.value(layer.source).nonzeros
        dense, entries = nonzeros is None, channels if nonzeros is None else nonzeros
        return Feed(channels, rows, columns, dense, entries, True, entries, dense)
    winners = producer.winners
    if winners and winners.selection is Selection.EXACT:
        return Feed(channels, rows, columns, False, winners.k, True, winners.k)
    if not winners and _never_zero(producer):
        return Feed(channels, rows, columns, False, channels, True, channels)
    part = density.get(producer.name, DEFAULT_DENSITY)
    expected = winners.k if winners else channels * part
    return Feed(channels, rows, columns, False, channels, False, expected)


def _never_zero(layer: Layer) -> bool:
    """No activation of a hidden layer is zero, whatever the sums are."""
    assert layer.output is not None, "only the last layer gives sums"
    keys = layer.table if layer.table is not None else np.arange(layer.low, layer.high + 1)
    return layer.output.zero_key not in keys
