"""The array of a map engine: lanes that go at their own pace, and what drains their steps."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.map_config import BANKS, MapConfig
from trencadis_format.map_tables import MAP_LAYER
from trencadis_hw.array.array import adder_tree
from trencadis_hw.array.memories import WeightMemory
from trencadis_hw.array.multiply import PairMultiplier
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature, narrow_load
from trencadis_hw.interface.streams import delay
from trencadis_hw.maps.accumulate import MapAccumulator
from trencadis_hw.maps.lane import MapLane
from trencadis_hw.maps.memory import row_layout
from trencadis_hw.maps.walk import issue_layout

__all__ = ["MapArray"]

COMPLETED_DELAY = WeightMemory.latency + PairMultiplier.latency + 1
"""Cycles from a lane's last value until an accumulator that is read has its product, less one."""


class MapArray(wiring.Component):
    """Lanes x tiles multipliers behind lanes that leave zeros out.

    Every lane counts its steps; the oldest step is drained when all lanes have completed it, one
    kernel ID per beat, all tiles at once.

    Parameters
    ----------
    config : MapConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    layer : In(MAP_LAYER)
        The layer; constant while it is computed.
    begin, flush : In(1)
        The layer begins; read all accumulators, so that what is in them is forgotten.
    flushed : Out(1)
        High for the one cycle in which that has been done.
    valid, issue, row : In
        A row of the map, and what it is.
    room : Out(1)
        More rows may be issued.
    beat_valid, sums : Out
        A beat: a sum per tile.
    parameter_row : Out
        Requantise row of the beat, a cycle before it.
    busy : Out(1)
        A lane has a value.
    load : In(LoadSignature)
        Image rows.
    """

    layer: data.View
    begin: Signal
    flush: Signal
    flushed: Signal
    valid: Signal
    issue: data.View
    row: data.View
    room: Signal
    beat_valid: Signal
    sums: data.View
    parameter_row: Signal
    busy: Signal
    load: LoadInterface

    def __init__(self, config: MapConfig, *, load_bits: int) -> None:
        self._config = config
        self._load_bits = load_bits
        super().__init__(
            {
                "layer": In(layout_of(MAP_LAYER)),
                "begin": In(1),
                "flush": In(1),
                "flushed": Out(1),
                "valid": In(1),
                "issue": In(issue_layout()),
                "row": In(row_layout(config)),
                "room": Out(1),
                "beat_valid": Out(1),
                "sums": Out(data.ArrayLayout(signed(config.sum_bits), config.tiles)),
                "parameter_row": Out(MAP_LAYER["requantise_base"].bits),
                "busy": Out(1),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        final = Signal()
        lanes = self._lanes(m, final)
        ready = Cat(self._completed(m, lane, number, final) for number, lane in enumerate(lanes))
        beat, bank = Signal(config.kernel_bits), Signal(range(BANKS))
        issued = self._drain(m, ready.all(), beat, bank, final)

        totals = [self._multiply(m, lane, number, beat, bank) for number, lane in enumerate(lanes)]
        levels = (config.lanes - 1).bit_length()
        valid, known = Signal(2 + levels), Signal(2 + levels)
        m.d.sync += [
            known.eq(Cat(issued | self.flush, known)),
            valid.eq(Cat(issued, valid)),
        ]
        address = delay(m, Cat(beat, bank), 1 + levels, name="drained")
        for tile in range(config.tiles):
            total = adder_tree(m, [lane[tile] for lane in totals], name=f"tree_{tile}")
            self._difference(m, tile, total, address, known[levels])
        m.d.comb += self.beat_valid.eq(valid[-1])
        self._parameters(m, issued, final, levels)
        return m

    def _lanes(self, m: Module, drained: Signal) -> list[MapLane]:
        """Lanes; column i of a row belongs to lane i modulo their number."""
        config = self._config
        lanes = []
        for number in range(config.lanes):
            m.submodules[f"lane_{number}"] = lane = MapLane(config)
            m.d.comb += [
                lane.valid.eq(self.valid),
                lane.masked.eq(self.issue.masked),
                lane.last.eq(self.issue.last),
                lane.weight.eq(self.issue.weight),
                lane.zero.eq(self.layer.zero),
                lane.depth.eq(self.layer.depth),
                lane.drained.eq(drained),
                *(
                    lane.keys[i].eq(self.row[i * config.lanes + number])
                    for i in range(config.lane_values)
                ),
            ]
            lanes.append(lane)
        m.d.comb += [
            self.room.eq(Cat(lane.room for lane in lanes).all()),
            self.busy.eq(Cat(lane.value != 0 for lane in lanes).any()),
        ]
        return lanes

    def _completed(self, m: Module, lane: MapLane, number: int, drained: Signal) -> Value:
        """High if a lane has completed the oldest step, its products included."""
        shift = Signal(COMPLETED_DELAY, name=f"completed_{number}")
        steps = Signal(range(BANKS + 1), name=f"steps_{number}")
        m.d.sync += [
            shift.eq(Cat(lane.completed, shift)),
            steps.eq(steps + shift[-1] - drained),
        ]
        return steps != 0

    def _drain(self, m: Module, ready: Value, beat: Signal, bank: Signal, final: Signal) -> Signal:
        """Count the beats of the oldest step; whether there is one in this cycle."""
        config = self._config
        issued = Signal()
        pause = Signal(range(max(2, config.raw_rows)))
        m.d.comb += [
            issued.eq(ready & (pause == 0) & ~self.flush),
            final.eq(issued & (beat == self.layer.beats)),
        ]
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.If(issued):
            m.d.sync += beat.eq(Mux(final, 0, beat + 1))
            with m.If(self.layer.raw):
                m.d.sync += pause.eq(config.raw_rows - 1)
        with m.If(self.flush):
            m.d.sync += Cat(beat, bank).eq(Cat(beat, bank) + 1)
            m.d.comb += self.flushed.eq(Cat(beat, bank).all())
        with m.Elif(final):
            m.d.sync += bank.eq(bank + 1)
        return issued

    def _multiply(
        self, m: Module, lane: MapLane, number: int, beat: Signal, bank: Signal
    ) -> list[Signal]:
        """A lane's weights, multipliers and accumulators; totals by tile."""
        config = self._config
        weights = WeightMemory(config, batch_lanes=1, load_bits=self._load_bits)
        m.submodules[f"weights_{number}"] = weights
        mine = narrow_load(m, self.load, self.load.unit == number, name=f"load_{number}")
        wiring.connect(m, mine, weights.load)
        m.d.comb += weights.rows[0].eq(lane.weight_row)
        value = delay(m, lane.value, weights.latency, name=f"value_{number}", registers=True)
        to_sum = weights.latency + PairMultiplier.latency
        lane_bank = delay(m, lane.bank, to_sum, name=f"bank_{number}", registers=True)
        row = weights.weights[0]
        totals = []
        for tile in range(0, config.tiles, 2):
            m.submodules[f"multiply_{number}_{tile}"] = multiplier = PairMultiplier()
            m.d.comb += [
                multiplier.low.eq(row[f"weight{tile}"]),
                multiplier.high.eq(row[f"weight{tile + 1}"]),
                multiplier.value.eq(value),
            ]
            for odd in range(2):
                accumulator = MapAccumulator(
                    kernels=config.kernels_per_tile, sum_bits=config.sum_bits
                )
                m.submodules[f"accumulate_{number}_{tile + odd}"] = accumulator
                kernel = delay(
                    m,
                    row[f"kernel{tile + odd}"],
                    PairMultiplier.latency,
                    name=f"kernel_{number}_{tile + odd}",
                    registers=True,
                )
                m.d.comb += [
                    accumulator.product.eq(
                        multiplier.high_product if odd else multiplier.low_product
                    ),
                    accumulator.carry.eq(multiplier.high_carry if odd else 0),
                    accumulator.kernel.eq(kernel),
                    accumulator.bank.eq(lane_bank),
                    accumulator.read_kernel.eq(beat),
                    accumulator.read_bank.eq(bank),
                ]
                totals.append(accumulator.total)
        return totals

    def _difference(
        self, m: Module, tile: int, total: Signal, address: Value, enable: Value
    ) -> None:
        """A tile's sum: the difference to what its accumulators had when they were last read."""
        config = self._config
        m.submodules[f"previous_{tile}"] = previous = memory.Memory(
            shape=config.sum_bits,
            depth=BANKS << config.kernel_bits,
            init=[],
            attrs={"ram_style": "distributed"},
        )
        write, read = previous.write_port(), previous.read_port(domain="comb")
        m.d.comb += [
            read.addr.eq(address),
            write.addr.eq(address),
            write.data.eq(total),
            write.en.eq(enable),
        ]
        m.d.sync += self.sums[tile].eq(total - read.data)

    def _parameters(self, m: Module, issued: Signal, final: Signal, levels: int) -> None:
        """The requantise row of every beat: one after the other, anew at every position."""
        layer = self.layer
        row, pass_ = Signal.like(layer.requantise_base), Signal.like(layer.passes)
        with m.If(self.begin):
            m.d.sync += [row.eq(layer.requantise_base), pass_.eq(0)]
        with m.Elif(issued):
            m.d.sync += row.eq(row + 1)
            with m.If(final):
                m.d.sync += pass_.eq(pass_ + 1)
                with m.If(pass_ == layer.passes):
                    m.d.sync += [row.eq(layer.requantise_base), pass_.eq(0)]
        m.d.comb += self.parameter_row.eq(delay(m, row, 1 + levels, name="parameter_row"))
