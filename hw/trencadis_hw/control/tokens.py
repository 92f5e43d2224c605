"""Counts of the full and of the reserved buffers of an engine's activation maps."""

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.widths import MAP_COUNT

__all__ = ["MapTokens", "level_of", "levels_layout"]


def levels_layout() -> data.ArrayLayout:
    """A count of buffers for every map."""
    return data.ArrayLayout(2, MAP_COUNT)


def level_of(levels: data.View, number: Value) -> Value:
    """The count of map `number`."""
    return Array(levels[i] for i in range(MAP_COUNT))[number]


class MapTokens(wiring.Component):
    """Counts, for every map, buffers promised to a producer and buffers filled.

    A producer reserves a buffer before it starts and fills it when it is done, once for every
    sample; the consumer waits for a filled one, takes it when it has asked for all of it, and
    releases it when it has read all of it. Counts follow a cycle later.

    Parameters
    ----------
    batch_lanes : int
        Samples in lockstep; a buffer is full when every sample's part is.

    Members
    -------
    reserve, take, release : In(MAP_COUNT)
        A buffer of the map is promised to a producer, is no longer waiting for its consumer, is
        free again.
    fill : In(array of MAP_COUNT bits)
        A sample's part of a buffer of the map is complete.
    reserved : Out(levels_layout)
        Buffers promised and not yet free again.
    full : Out(MAP_COUNT)
        The map has a full buffer that is not taken.
    """

    reserve: Signal
    take: Signal
    release: Signal
    fill: data.View
    reserved: data.View
    full: Signal

    def __init__(self, batch_lanes: int) -> None:
        self._batch_lanes = batch_lanes
        super().__init__(
            {
                "reserve": In(MAP_COUNT),
                "take": In(MAP_COUNT),
                "release": In(MAP_COUNT),
                "fill": In(data.ArrayLayout(MAP_COUNT, batch_lanes)),
                "reserved": Out(levels_layout()),
                "full": Out(MAP_COUNT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i in range(MAP_COUNT):
            m.d.sync += self.reserved[i].eq(self.reserved[i] + self.reserve[i] - self.release[i])
            full = []
            for sample in range(self._batch_lanes):
                filled = Signal(2, name=f"filled_{sample}_{i}")
                m.d.sync += filled.eq(filled + self.fill[sample][i] - self.take[i])
                full.append(filled != 0)
            m.d.comb += self.full[i].eq(sum(full) == self._batch_lanes)
        return m
