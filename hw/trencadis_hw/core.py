"""A core: one engine or a chain of them, computing one sample or two in lockstep."""

import itertools

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring

from trencadis_format.config import KernelConfig
from trencadis_format.widths import KEY_BITS
from trencadis_hw.control.tokens import level_of
from trencadis_hw.engine import Engine
from trencadis_hw.interface.core_ports import core_signature
from trencadis_hw.interface.lists import list_write_layout
from trencadis_hw.interface.load import LoadInterface, load_bits
from trencadis_hw.interface.streams import Queue, RegisterSlice, connect_streams
from trencadis_hw.transfer.feed import Feeder
from trencadis_hw.transfer.feed_lists import ListFeeder
from trencadis_hw.transfer.pack import Packer

__all__ = ["Core"]

RAW_BITS = 32
"""Width of a sum on its way to the host."""


class Core(wiring.Component):
    """Computes samples: input beats in, output beats out, by itself.

    Parameters
    ----------
    config : KernelConfig
        The kernel the core belongs to.

    Members
    -------
    feed : In(FEED)
        The image's input and output formats.
    start : In(1)
        Begin a run; the core must have been reset.
    input_ended : In(1)
        All packed inputs of the run have been handed to `input`
    overflow, busy : Out(1)
        As in `Engine`; `busy` of the first engine.
    clear, cleared : In(1), Out(1)
        As in `Engine`.
    input, output : In, Out(array of stream of beats)
        Packed inputs and outputs, one stream per sample in lockstep.
    load : In(LoadSignature)
        Image rows.
    """

    feed: data.View
    start: Signal
    input_ended: Signal
    overflow: Signal
    busy: Signal
    clear: Signal
    cleared: Signal
    input: list[stream.Interface]
    output: list[stream.Interface]
    load: LoadInterface

    def __init__(self, config: KernelConfig) -> None:
        self._config = config
        self._load_bits = load_bits(config.core)
        super().__init__(core_signature(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config.core
        batch_lanes = config.batch_lanes
        engines = []
        for number, engine_config in enumerate(config.engines):
            engine = Engine(
                engine_config, batch_lanes=batch_lanes, load_bits=self._load_bits, engine=number
            )
            m.submodules[f"engine_{number}"] = engine
            wiring.connect(m, wiring.flipped(self.load), engine.load)
            m.d.comb += [engine.start.eq(self.start), engine.clear.eq(self.clear)]
            engines.append(engine)
        for number, (before, after) in enumerate(itertools.pairwise(engines), start=1):
            m.d.comb += [
                after.input_ended.eq(before.idle),
                after.outside_reserve.eq(before.next_reserve),
                before.next_reserved.eq(after.reserved),
            ]
            for sample in range(batch_lanes):
                paths = zip(before.leave[sample], after.enter[sample], strict=True)
                for path, (leave, enter) in enumerate(paths):
                    # No logic reaches from one engine into another.
                    border = RegisterSlice(list_write_layout())
                    m.submodules[f"border_{number}_{sample}_{path}"] = border
                    connect_streams(m, source=leave, sink=border.i)
                    connect_streams(m, source=border.o, sink=enter)
        first, last = engines[0], engines[-1]
        m.d.comb += [
            self.overflow.eq(Cat(engine.overflow for engine in engines).any()),
            self.busy.eq(first.busy),
            self.cleared.eq(Cat(engine.cleared for engine in engines).all()),
        ]
        self._feed(m, first)
        self._pack(m, last)
        return m

    def _feed(self, m: Module, engine: Engine) -> None:
        """Input beats into the first engine's dense input, or its lists.

        A buffer is reserved when a group's first sample begins. If the samples run out before the
        group is full, the rest of it is declared filled with whatever is there.
        """
        config = self._config
        depth = config.core.engines[0].dense_values
        in_map = self.feed.in_map
        begun = Signal(config.core.batch_lanes)
        permit = Signal(config.core.batch_lanes)
        for sample in range(config.core.batch_lanes):
            m.submodules[f"input_{sample}"] = queue = Queue(config.bus_bits, config.input_beats)
            m.submodules[f"feeder_{sample}"] = feeder = Feeder(
                bus_bits=config.bus_bits, depth=depth
            )
            connect_streams(m, source=wiring.flipped(self.input[sample]), sink=queue.i)
            sample_begun: Value = feeder.begun
            if config.core.sparse_input:
                sample_begun |= self._feed_lists(m, sample, engine, queue, feeder).begun
            else:
                connect_streams(m, source=queue.o, sink=feeder.beats)
            missing = Signal(name=f"missing_{sample}")
            # Samples that have begun and are not yet in their buffer.
            filling = Signal(2, name=f"filling_{sample}")
            filled = engine.filled[sample].bit_select(in_map, 1)
            m.d.sync += filling.eq(filling + begun[sample] - (filled & ~missing))
            m.d.comb += [
                feeder.feed.eq(self.feed),
                begun[sample].eq(sample_begun),
                engine.dense_enables[sample].eq(feeder.enable),
                engine.dense_addresses[sample].eq(feeder.address),
                engine.dense_values[sample].eq(feeder.value),
                engine.outside_fill[sample].eq((feeder.done | missing) << in_map),
            ]
            if sample == 0:
                room = level_of(engine.reserved, in_map) < self.feed.buffers
                m.d.comb += [
                    feeder.allowed.eq(room & ~permit.any()),
                    # A sample in the queue has no buffer reserved yet, but will arrive.
                    engine.input_ended.eq(self.input_ended & ~queue.o.valid),
                ]
            else:
                m.d.comb += [
                    feeder.allowed.eq(permit[sample]),
                    # Fills are counted: one that overtook a sample under way would pass for it.
                    missing.eq(permit[sample] & self.input_ended & ~queue.o.valid & (filling == 0)),
                ]
                with m.If(begun[sample] | missing):
                    m.d.sync += permit[sample].eq(0)
        m.d.comb += engine.outside_reserve.eq(begun[0] << in_map)
        with m.If(begun[0]):
            m.d.sync += permit.eq(~1)

    def _feed_lists(
        self, m: Module, sample: int, engine: Engine, queue: Queue, feeder: Feeder
    ) -> ListFeeder:
        """The way of a sparse input beside that of a dense one; a sample takes one of the two."""
        config = self._config
        lists = ListFeeder(
            config.core.engines[0], bus_bits=config.bus_bits, load_bits=self._load_bits
        )
        m.submodules[f"lists_{sample}"] = lists
        wiring.connect(m, wiring.flipped(self.load), lists.load)
        sparse = self.feed.sparse
        m.d.comb += [
            lists.feed.eq(self.feed),
            lists.allowed.eq(feeder.allowed),
            lists.beats.payload.eq(queue.o.payload),
            lists.beats.valid.eq(queue.o.valid & sparse),
            feeder.beats.payload.eq(queue.o.payload),
            feeder.beats.valid.eq(queue.o.valid & ~sparse),
            queue.o.ready.eq(Mux(sparse, lists.beats.ready, feeder.beats.ready)),
        ]
        connect_streams(m, source=lists.writes, sink=engine.enter[sample][0])
        return lists

    def _pack(self, m: Module, engine: Engine) -> None:
        """Keys or sums of the last engine into output beats."""
        config = self._config
        requantisers = config.core.engines[-1].requantisers
        piece_bits = KEY_BITS * requantisers
        per_group = RAW_BITS // KEY_BITS
        number = Signal(range(per_group))
        packers = []
        for sample in range(config.core.batch_lanes):
            packer = Packer(
                piece_bits=piece_bits, bus_bits=config.bus_bits, depth=config.output_beats
            )
            m.submodules[f"packer_{sample}"] = packer
            packers.append(packer)
            m.d.comb += packer.feed.eq(self.feed)
            connect_streams(m, source=packer.beats, sink=wiring.flipped(self.output[sample]))
        room = Cat(packer.pieces.ready for packer in packers).all()
        raw = engine.raw
        m.d.comb += raw.ready.eq(room & (number == per_group - 1))
        with m.If(raw.valid & room):
            m.d.sync += number.eq(number + 1)
        for sample, packer in enumerate(packers):
            host = engine.host[sample]
            sums = Signal(RAW_BITS * requantisers, name=f"sums_{sample}")
            for i in range(requantisers):
                extended = Signal(signed(RAW_BITS), name=f"sum_{sample}_{i}")
                m.d.comb += [
                    extended.eq(raw.payload.sums[sample][i]),
                    sums.word_select(i, RAW_BITS).eq(extended),
                ]
            with m.If(raw.valid):
                m.d.comb += [
                    packer.pieces.payload.eq(sums.word_select(number, piece_bits)),
                    packer.pieces.valid.eq(room),
                ]
            with m.Else():
                m.d.comb += [
                    packer.pieces.payload.eq(host.payload),
                    packer.pieces.valid.eq(host.valid),
                    host.ready.eq(packer.pieces.ready),
                ]
