"""Max-pooling of sums, before they are requantised."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.timing import POOL_LATENCY
from trencadis_hw.array.array import beat_layout

__all__ = ["Pool", "pooled_layout"]


def pooled_layout(config: EngineConfig, batch_lanes: int) -> data.StructLayout:
    """A beat of pooled sums of all samples, with its layer and whether it ends a vector."""
    return data.StructLayout(
        {
            "sums": data.ArrayLayout(
                data.ArrayLayout(signed(config.sum_bits), config.columns), batch_lanes
            ),
            "layer": config.layer_bits,
            "vector_end": 1,
        }
    )


class Pool(wiring.Component):
    """Keep, for every kernel and column, the largest sum of a pooling window.

    The steps of a window follow each other, so one memory row per kernel is enough; where a step is
    one beat, the maxima that are given are all there is to keep. Requantisation does not decrease,
    so the maximum of sums is the maximum of keys, at a fraction of the requantisers' work.

    Latency 1 cycle, one beat per cycle.

    Parameters
    ----------
    config : EngineConfig
        The engine.

    Members
    -------
    valid, beat : In
        A beat of sums from the array.
    pooled_valid : Out(1)
        `pooled` holds a window's maxima.
    pooled : Out(beat_layout)
        The maxima.
    """

    latency = POOL_LATENCY

    valid: Signal
    beat: data.View
    pooled_valid: Signal
    pooled: data.View

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "beat": In(beat_layout(config)),
                "pooled_valid": Out(1),
                "pooled": Out(beat_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        kept: Value = Value.cast(self.pooled.sums)
        ports = None
        if config.beats > 1:
            m.submodules.largest = largest = memory.Memory(
                shape=config.sum_bits * config.columns,
                depth=config.beats,
                init=[],
                attrs={"ram_style": "distributed"},
            )
            write, read = largest.write_port(), largest.read_port(domain="comb")
            ports = write, read
            kept = read.data
        best = []
        for column in range(config.columns):
            new = self.beat.sums[column]
            old = kept.word_select(column, config.sum_bits).as_signed()
            best.append(Mux(self.beat.pool_first | (new > old), new, old))
        if ports is not None:
            write, read = ports
            m.d.comb += [
                read.addr.eq(self.beat.beat),
                write.addr.eq(self.beat.beat),
                write.data.eq(Cat(*best)),
                write.en.eq(self.valid),
            ]
        m.d.sync += self.pooled_valid.eq(self.valid & self.beat.pool_last)
        with m.If(self.valid):
            m.d.sync += [
                self.pooled.eq(self.beat),
                Value.cast(self.pooled.sums).eq(Cat(*best)),
            ]
        return m
