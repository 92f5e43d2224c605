"""The bus on which an image reaches the memories of a core."""

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import Out

from trencadis_hw import abi
from trencadis_hw.config import CoreConfig

__all__ = ["LoadInterface", "LoadSignature", "add_load_port", "load_bits", "narrow_load"]

ROW_BITS = 16
"""Width of a row address on the bus."""


def load_bits(config: CoreConfig) -> int:
    """Width of the longest row of any memory of a core."""
    widest = [
        record.bits
        for record in (abi.SEQUENCE, abi.SERIALISE, abi.SELECT, abi.EMIT, abi.REQUANTISE, abi.FEED)
    ]
    for engine in config.engines:
        widest += [
            engine.weight_bits,
            abi.scatter_record(engine.requantisers).bits,
            abi.gather_record(engine.requantisers).bits,
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
        Which memory it is for: `abi.Target`, engine of the core, lane or requantiser.
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


def add_load_port(
    m: Module, storage: memory.Memory, load: LoadInterface, target: abi.Target
) -> None:
    """Give `storage` a write port that takes the rows of `target` from the bus."""
    port = storage.write_port()
    m.d.comb += [
        port.addr.eq(load.row),
        Value.cast(port.data).eq(load.data),
        port.en.eq(load.enable & (load.target == target)),
    ]


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
