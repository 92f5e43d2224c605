"""k-WTA over a whole layer: slower than the streaming one, for vectors of any length."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import SELECT, Selection
from trencadis_hw.interface.load import LoadInterface, LoadSignature
from trencadis_hw.interface.loaded_table import LoadedTable
from trencadis_hw.interface.streams import Queue, connect_streams
from trencadis_hw.output.radix import (
    DIGITS,
    DigitCounter,
    choose_winners,
    rank_row,
    ranks_layout,
    threshold_layout,
)
from trencadis_hw.output.reorder import row_layout

__all__ = ["WholeSelector"]


class WholeSelector(wiring.Component):
    """k-WTA over one vector of up to `whole_rows` rows at a time.

    The vector is counted by its first digit while it arrives, read again for every other digit,
    and once more for its winners. Exact winners go to the lowest index among equals. From the last
    row of n to the last row on `o`: 4*n + 22 cycles; the next vector waits until then.

    Parameters
    ----------
    config : EngineConfig
        The engine.
    load_bits : int
        Width of the load bus.

    Members
    -------
    i : In(stream of row_layout)
        Rows of vectors.
    o : Out(stream of row_layout)
        The same rows; `mask` tells the winners. Rows without winners are left out, but for the
        last of a vector.
    load : In(LoadSignature)
        Image rows.
    """

    i: stream.Interface
    o: stream.Interface
    load: LoadInterface

    def __init__(self, config: EngineConfig, *, load_bits: int) -> None:
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(row_layout(config))),
                "o": Out(stream.Signature(row_layout(config))),
                "load": In(LoadSignature(load_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.submodules.layers = layers = LoadedTable(
            SELECT, Target.SELECT, depth=config.layers, load_bits=len(self.load.data), readers=2
        )
        wiring.connect(m, wiring.flipped(self.load), layers.load)
        layer = layers.row[0]

        m.submodules.rows = rows = memory.Memory(
            shape=row_layout(config),
            depth=config.whole_rows,
            init=[],
            attrs={"ram_style": "block"},
        )
        write, read = rows.write_port(), rows.read_port()
        most = config.whole_rows * config.requantisers
        m.submodules.counter = counter = DigitCounter(config.requantisers, most)
        m.submodules.queue = queue = Queue(row_layout(config), 6)

        threshold = Signal(threshold_layout(most))
        number = Signal(range(DIGITS))
        address = Signal(range(config.whole_rows))
        last_address = Signal(range(config.whole_rows))
        filling, counting, winning = Signal(), Signal(), Signal()
        m.d.comb += [
            layers.address[0].eq(self.i.payload.layer),
            write.addr.eq(address),
            write.data.eq(self.i.payload),
            read.addr.eq(address),
        ]
        at_last = address == last_address
        with m.FSM():
            with m.State("fill"):
                m.d.comb += [
                    self.i.ready.eq(1),
                    filling.eq(self.i.valid),
                    write.en.eq(self.i.valid),
                ]
                with m.If(self.i.valid):
                    m.d.sync += [address.eq(address + 1), last_address.eq(address)]
                    with m.If(self.i.payload.last):
                        m.d.sync += address.eq(0)
                        m.next = "choose"
            with m.State("choose"), m.If(counter.found_valid):
                m.d.sync += [threshold.eq(counter.found), number.eq(number + 1)]
                m.next = "count"
                with m.If(number == DIGITS - 1):
                    m.d.sync += number.eq(0)
                    m.next = "win"
            with m.State("count"):
                m.d.comb += counting.eq(1)
                m.d.sync += address.eq(address + 1)
                with m.If(at_last):
                    m.d.sync += address.eq(0)
                    m.next = "choose"
            with m.State("win"):
                # Two rows may be under way to the queue when another is asked for.
                m.d.comb += winning.eq(queue.level < 4)
                with m.If(winning):
                    m.d.sync += address.eq(address + 1)
                    with m.If(at_last):
                        m.d.sync += address.eq(0)
                        m.next = "fill"

        counted, won = Signal(), Signal()
        m.d.sync += [counted.eq(counting), won.eq(winning)]
        row = Mux(filling, Value.cast(self.i.payload), Value.cast(read.data))
        row = row_layout(config)(row)
        start = threshold_layout(most).const({"digits": 0, "k": 0})
        m.d.comb += [
            counter.valid.eq(filling | counted),
            counter.keys.eq(row.keys),
            counter.mask.eq(row.mask),
            counter.last.eq(row.last),
            counter.number.eq(number),
            counter.threshold.eq(threshold),
        ]
        with m.If(filling):
            m.d.comb += [
                counter.threshold.eq(start),
                counter.threshold.k.eq(layer.k),
            ]

        self._choose(m, layers, row=read.data, won=won, threshold=threshold, queue=queue)
        connect_streams(m, source=queue.o, sink=wiring.flipped(self.o))
        return m

    def _choose(
        self,
        m: Module,
        layers: LoadedTable,
        *,
        row: data.View,
        won: Signal,
        threshold: data.View,
        queue: Queue,
    ) -> None:
        """Choose the winners of a row of the finished vector, and put them into the queue."""
        config = self._config
        # Compare with the threshold first; who wins depends on the rows before, a cycle later.
        width = config.requantisers
        compared = Signal()
        starts = Signal()
        candidate = Signal(row_layout(config), reset_less=True)
        ranks = Signal(ranks_layout(width), reset_less=True)
        found = rank_row(
            m,
            keys=row.keys,
            mask=row.mask,
            largest=threshold.digits,
            width=width,
        )
        m.d.sync += [
            compared.eq(won),
            candidate.eq(row),
            starts.eq(row.number == 0),
            ranks.eq(found),
        ]
        left = Signal.like(threshold.k)
        m.d.comb += layers.address[1].eq(candidate.layer)
        winners, left_after = choose_winners(
            m,
            ranks,
            left=Mux(starts, threshold.k, left),
            exact=layers.row[1].selection == Selection.EXACT,
            width=width,
        )
        with m.If(compared):
            m.d.sync += left.eq(left_after)
        m.d.comb += [
            queue.i.valid.eq(compared & (winners.any() | candidate.last)),
            queue.i.payload.eq(candidate),
            queue.i.payload.mask.eq(winners),
        ]
