"""An array that routes products into accumulators addressed by kernel ID."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring

from trencadis_format.config import EngineConfig
from trencadis_hw.array.accumulate import BankedAccumulator
from trencadis_hw.array.array import ArraySignature, adder_tree, step_layout
from trencadis_hw.array.multiply import PairMultiplier
from trencadis_hw.interface.streams import delay

__all__ = ["BankedArray"]


class BankedArray(wiring.Component):
    """Lanes x tiles multipliers, an accumulator memory after each, an adder tree per tile.

    While a step's products are accumulated in one bank, the step before is drained from the
    other: one kernel ID a cycle, all tiles at once. For every kernel the tree adds up the lanes of
    a group, and the difference to the total at the last drain is the step's sum. So a step must
    take at least as many cycles as the step before it has kernels to drain, and its products must
    belong to kernels that it drains itself: what is left becomes part of a later step's sum.

    Latency from a step's last operands to its first beat: `timing.array_latency` cycles.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    """

    step: data.View
    values: data.View
    weights: data.View
    valid: Signal
    beat: data.View

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(ArraySignature(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        step = Signal(step_layout())
        m.d.comb += Value.cast(step).eq(
            delay(m, Value.cast(self.step), PairMultiplier.latency, name="step")
        )
        # The bit that starts something must be known after reset.
        last = Signal(PairMultiplier.latency)
        m.d.sync += last.eq(Cat(self.step.last, last))

        active = Signal()
        draining = Signal()
        beat = Signal(config.kernel_bits)
        drained = Signal(step_layout(), reset_less=True)
        final = Signal()
        m.d.comb += final.eq(beat == drained.beats)
        with m.If(draining):
            m.d.sync += beat.eq(beat + 1)
            with m.If(final):
                m.d.sync += draining.eq(0)
        with m.If(last[-1]):
            m.d.sync += [active.eq(~active), draining.eq(1), beat.eq(0), drained.eq(step)]

        totals = self._accumulate(m, active, beat)
        levels = max(0, (config.group_lanes - 1).bit_length())
        valid = Signal(1 + levels + 1)
        m.d.sync += valid.eq(Cat(draining, valid))
        flags = Cat(drained, final, beat, ~active)
        arrived = delay(m, flags, 1 + levels, name="flags")
        width = len(Value.cast(drained))
        arrived_step = step_layout()(arrived[:width])
        arrived_final = arrived[width]
        arrived_beat = arrived[width + 1 : width + 1 + config.kernel_bits]
        arrived_bank = arrived[-1]

        sums = self._subtract(
            m, totals, address=Cat(arrived_beat, arrived_bank), enable=valid[levels]
        )
        valid_now: Value = valid[-1] & ~delay(m, arrived_step.discard, 1, name="discard")
        beat_flags = delay(
            m,
            Cat(
                arrived_beat,
                arrived_step.layer,
                arrived_step.pool_first,
                arrived_step.pool_last,
                arrived_step.vector_end & arrived_final,
            ),
            1,
            name="beat_flags",
        )
        if config.groups > 1:
            combine = delay(m, arrived_step.combine, 1, name="combine")
            combined = Signal()
            m.d.sync += combined.eq(valid_now)
            valid_now = combined
            beat_flags = delay(m, beat_flags, 1, name="combined_flags")
            self._combine(m, sums, combine)
        m.d.comb += [
            self.valid.eq(valid_now),
            Value.cast(self.beat).eq(
                Cat(*(column for group in sums for column in group), beat_flags)
            ),
        ]
        return m

    def _accumulate(self, m: Module, active: Signal, beat: Signal) -> list[list[Signal]]:
        """Multiply and accumulate; give the totals to drain, by lane and tile."""
        config = self._config
        totals: list[list[Signal]] = []
        for lane in range(config.lanes):
            row = self.weights[lane]
            totals.append([])
            for tile in range(0, config.tiles, 2):
                multiplier = PairMultiplier()
                m.submodules[f"multiply_{lane}_{tile}"] = multiplier
                m.d.comb += [
                    multiplier.low.eq(row[f"weight{tile}"]),
                    multiplier.high.eq(row[f"weight{tile + 1}"]),
                    multiplier.value.eq(self.values[lane]),
                ]
                for odd in range(2):
                    accumulator = BankedAccumulator(
                        kernels=config.kernels_per_tile, sum_bits=config.sum_bits
                    )
                    m.submodules[f"accumulate_{lane}_{tile + odd}"] = accumulator
                    kernel = delay(
                        m,
                        row[f"kernel{tile + odd}"],
                        PairMultiplier.latency,
                        name=f"kernel_{lane}_{tile + odd}",
                        registers=True,
                    )
                    m.d.comb += [
                        accumulator.product.eq(
                            multiplier.high_product if odd else multiplier.low_product
                        ),
                        accumulator.carry.eq(multiplier.high_carry if odd else 0),
                        accumulator.kernel.eq(kernel),
                        accumulator.bank.eq(active),
                        accumulator.read_kernel.eq(beat),
                    ]
                    totals[-1].append(accumulator.total)
        return totals

    def _subtract(
        self, m: Module, totals: list[list[Signal]], *, address: Value, enable: Value
    ) -> list[list[Signal]]:
        """Add up the lanes of each group, and take the difference to the total drained before.

        Returns
        -------
        sums
            Sums by group and tile.
        """
        config = self._config
        sums: list[list[Signal]] = []
        for group in range(config.groups):
            lanes = range(group * config.group_lanes, (group + 1) * config.group_lanes)
            sums.append([])
            for tile in range(config.tiles):
                total = adder_tree(
                    m, [totals[lane][tile] for lane in lanes], name=f"tree_{group}_{tile}"
                )
                previous = memory.Memory(
                    shape=config.sum_bits,
                    depth=2 << config.kernel_bits,
                    init=[],
                    attrs={"ram_style": "distributed"},
                )
                m.submodules[f"previous_{group}_{tile}"] = previous
                write, read = previous.write_port(), previous.read_port(domain="comb")
                difference = Signal(
                    config.sum_bits, name=f"difference_{group}_{tile}", reset_less=True
                )
                m.d.comb += [
                    read.addr.eq(address),
                    write.addr.eq(address),
                    write.data.eq(total),
                    write.en.eq(enable),
                ]
                m.d.sync += difference.eq(total - read.data)
                sums[-1].append(difference)
        return sums

    def _combine(self, m: Module, sums: list[list[Signal]], combine: Value) -> None:
        """Replace the first group's sums by the sums of all groups, where `combine` says so."""
        config = self._config
        for tile in range(config.tiles):
            for group in range(config.groups):
                own = sums[group][tile]
                column = Signal(config.sum_bits, name=f"column_{group}_{tile}", reset_less=True)
                if group == 0:
                    others = sum(
                        (sums[g][tile] for g in range(2, config.groups)), start=sums[1][tile]
                    )
                    m.d.sync += column.eq(own + Mux(combine, others, 0))
                else:
                    m.d.sync += column.eq(own)
                sums[group][tile] = column
