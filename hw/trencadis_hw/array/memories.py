"""The large memories of an engine: weights and dense input."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import weight_record
from trencadis_format.map_config import MapConfig
from trencadis_format.timing import WEIGHT_LATENCY
from trencadis_format.widths import VALUE_BITS
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature

__all__ = ["DenseMemory", "WeightMemory"]


class WeightMemory(wiring.Component):
    """Weights and kernel IDs of a lane, for one or two samples.

    Two samples read through the two ports of the same memory; the image is loaded through the first
    one. Latency from `rows` to `weights`: 2 cycles.

    Parameters
    ----------
    config : EngineConfig or MapConfig
        The engine.
    batch_lanes : int
        Samples in lockstep.
    load_bits : int
        Width of the load bus.

    Members
    -------
    rows : In(array)
        Row to read, one per sample.
    weights : Out(array)
        The row, one per sample.
    load : In(LoadSignature)
        Image rows for this lane. While one is written, `weights` is undefined.
    """

    latency = WEIGHT_LATENCY

    rows: data.View
    weights: data.View
    load: LoadInterface

    def __init__(
        self, config: EngineConfig | MapConfig, *, batch_lanes: int, load_bits: int
    ) -> None:
        self._config = config
        self._batch_lanes = batch_lanes
        self._row = layout_of(weight_record(config.tiles, config.kernel_bits))
        super().__init__(
            {
                "rows": In(data.ArrayLayout(range(config.weight_rows), batch_lanes)),
                "weights": Out(data.ArrayLayout(self._row, batch_lanes)),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.storage = storage = memory.Memory(
            shape=self._config.weight_bits,
            depth=config.weight_rows,
            init=[],
            attrs={"ram_style": config.weight_memory},
        )
        load = self.load
        write = storage.write_port()
        mine = Signal()
        m.d.comb += [
            mine.eq(load.enable & (load.target == Target.WEIGHT)),
            write.data.eq(load.data),
            write.en.eq(mine),
        ]
        for sample in range(self._batch_lanes):
            distributed = config.weight_memory == "distributed"
            read = storage.read_port(domain="comb" if distributed else "sync")
            row = Signal(range(config.weight_rows), name=f"row_{sample}")
            m.d.comb += [row.eq(self.rows[sample]), read.addr.eq(row)]
            if sample == 0:
                # One port both reads and writes, so that a true dual-port memory is enough.
                m.d.comb += [row.eq(Mux(mine, load.row, self.rows[sample])), write.addr.eq(row)]
            fetched = read.data
            if not distributed:
                # Memories differ in what they read while they write.
                m.d.comb += read.en.eq(~mine)
            else:
                fetched = Signal(config.weight_bits, name=f"fetched_{sample}", reset_less=True)
                m.d.sync += fetched.eq(read.data)
            output = Signal(config.weight_bits, name=f"output_{sample}", reset_less=True)
            m.d.sync += output.eq(fetched)
            m.d.comb += self.weights[sample].as_value().eq(output)
        return m


class DenseMemory(wiring.Component):
    """The network's input, as the lanes of one number in all groups read it, for one sample.

    Latency from `address` to `value`: 2 cycles.

    Parameters
    ----------
    depth : int
        Values it holds.

    Members
    -------
    address : In(range(depth))
        Value to read.
    value : Out(signed(VALUE_BITS))
        The value.
    write_enable, write_address, write_value : In
        A value to store.
    """

    address: Signal
    value: Signal
    write_enable: Signal
    write_address: Signal
    write_value: Signal

    def __init__(self, depth: int) -> None:
        self._depth = depth
        value = signed(VALUE_BITS)
        super().__init__(
            {
                "address": In(range(depth)),
                "value": Out(value),
                "write_enable": In(1),
                "write_address": In(range(depth)),
                "write_value": In(value),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(
            shape=signed(VALUE_BITS),
            depth=self._depth,
            init=[],
            attrs={"ram_style": "block"},
        )
        read, write = storage.read_port(), storage.write_port()
        m.d.comb += [
            read.addr.eq(self.address),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_value),
            write.en.eq(self.write_enable),
        ]
        m.d.sync += self.value.eq(read.data)
        return m
