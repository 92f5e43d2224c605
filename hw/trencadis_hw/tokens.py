"""Which activation maps of an engine are full, and which may be written."""

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw import abi

__all__ = ["MapTokens", "level_of", "levels_layout"]


def levels_layout() -> data.ArrayLayout:
    """A count of buffers for every map."""
    return data.ArrayLayout(2, abi.MAP_COUNT)


def level_of(levels: data.View, number: Value) -> Value:
    """The count of map `number`."""
    return Array(levels[i] for i in range(abi.MAP_COUNT))[number]


class MapTokens(wiring.Component):
    """Counts, for every map, buffers promised to a producer and buffers filled.

    A producer reserves a buffer before it starts and fills it when it is done, once for every
    word; the consumer waits for a filled one, takes it when it has asked for all of it, and
    releases it when it has read all of it. Counts follow a cycle later.

    Parameters
    ----------
    words : int
        Words in lockstep; a buffer is full when every word's part is.

    Members
    -------
    reserve, take, release : In(MAP_COUNT)
        A buffer of the map is promised to a producer, is no longer waiting for its consumer, is
        free again.
    fill : In(array of MAP_COUNT bits)
        A word's part of a buffer of the map is complete.
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

    def __init__(self, words: int) -> None:
        self._words = words
        super().__init__(
            {
                "reserve": In(abi.MAP_COUNT),
                "take": In(abi.MAP_COUNT),
                "release": In(abi.MAP_COUNT),
                "fill": In(data.ArrayLayout(abi.MAP_COUNT, words)),
                "reserved": Out(levels_layout()),
                "full": Out(abi.MAP_COUNT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for i in range(abi.MAP_COUNT):
            m.d.sync += self.reserved[i].eq(self.reserved[i] + self.reserve[i] - self.release[i])
            full = []
            for word in range(self._words):
                filled = Signal(2, name=f"filled_{word}_{i}")
                m.d.sync += filled.eq(filled + self.fill[word][i] - self.take[i])
                full.append(filled != 0)
            m.d.comb += self.full[i].eq(sum(full) == self._words)
        return m
