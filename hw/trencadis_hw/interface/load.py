"""The bus on which an image reaches the memories of a core."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from trencadis_format.config import CoreConfig
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    REQUANTISE,
    SELECT,
    SEQUENCE,
    SERIALISE,
    gather_record,
    scatter_record,
)
from trencadis_format.map_tables import ADD, MAP_LAYER, MAP_PROGRAM

__all__ = ["LoadInterface", "LoadSignature", "load_bits", "narrow_load"]

ROW_BITS = 16
"""Width of a row address on the bus."""


def load_bits(config: CoreConfig) -> int:
    """Width of the longest row of any memory of a core."""
    if config.map is not None:
        records = (FEED, REQUANTISE, MAP_PROGRAM, MAP_LAYER, ADD)
        return max(config.map.weight_bits, *(record.bits for record in records))
    widest = [record.bits for record in (SEQUENCE, SERIALISE, SELECT, EMIT, REQUANTISE, FEED)]
    for engine in config.engines:
        widest += [
            engine.weight_bits,
            scatter_record(engine.requantisers).bits,
            gather_record(engine.requantisers).bits,
        ]
    return max(widest)


class LoadInterface(wiring.PureInterface):
    """A load bus; its members are those of `LoadSignature`."""

    enable: Signal
    target: Signal
    engine: Signal
    unit: Signal
    row: Signal
    data: Signal


class LoadSignature(wiring.Signature):
    """One row for one memory, from the image loader to all cores.

    Members
    -------
    enable : Out(1)
        There is a row.
    target, engine, unit : Out
        Which memory it is for: `Target`, engine of the core, lane or requantiser.
    row : Out(ROW_BITS)
        Row of the memory.
    data : Out
        The row, in the low bits.
    """

    def __init__(self, data_bits: int) -> None:
        self.data_bits = data_bits
        super().__init__(
            {
                "enable": Out(1),
                "target": Out(8),
                "engine": Out(8),
                "unit": Out(8),
                "row": Out(ROW_BITS),
                "data": Out(data_bits),
            }
        )

    def create(self, *, path: Any = None, src_loc_at: int = 0) -> LoadInterface:
        """Make a bus, as `wiring.Signature.create` does."""
        return LoadInterface(self, path=path, src_loc_at=1 + src_loc_at)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadSignature) and other.data_bits == self.data_bits


def narrow_load(m: Module, load: LoadInterface, condition: Value, *, name: str) -> LoadInterface:
    """The bus as those see it for whom only rows under a condition are meant.

    Whom a row is meant for is decided here, not by the receivers, so that these are all alike.
    """
    narrowed = LoadSignature(len(load.data)).create(path=(name,))
    m.d.comb += [
        getattr(narrowed, member).eq(getattr(load, member)) for member in narrowed.signature.members
    ]
    m.d.comb += narrowed.enable.eq(load.enable & condition)
    return narrowed
