"""Reading an image from memory into the cores."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.image import ABI_VERSION, BLOCK, BLOCK_MAGIC, HEADER, Target
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadInterface, LoadSignature

__all__ = ["ImageLoader"]


class ImageLoader(wiring.Component):
    """Put the blocks of an image, a 32-bit word per cycle, on the load bus.

    Only images whose first block names this kernel's configuration are let through; blocks that
    make no sense end the loading.

    Parameters
    ----------
    configuration : int
        Digest of the kernel's configuration.
    bus_bits : int
        Width of a beat of the image.
    load_bits : int
        Width of the load bus.

    Members
    -------
    start : In(1)
        An image follows.
    beats : In(stream)
        The image.
    load : Out(LoadSignature)
        To the cores.
    clear : Out(1)
        The cores are to clear their activation memories.
    cleared : In(1)
        They have.
    done : Out(1)
        The image is complete, or was refused; one cycle.
    good : Out(1)
        The last image was complete.
    """

    start: Signal
    beats: stream.Interface
    load: LoadInterface
    clear: Signal
    cleared: Signal
    done: Signal
    good: Signal

    def __init__(self, *, configuration: int, bus_bits: int, load_bits: int) -> None:
        self._configuration = configuration
        self._bus_bits = bus_bits
        self._load_bits = load_bits
        super().__init__(
            {
                "start": In(1),
                "beats": In(stream.Signature(bus_bits)),
                "load": Out(LoadSignature(load_bits)),
                "clear": Out(1),
                "cleared": In(1),
                "done": Out(1),
                "good": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # 32-bit words out of beats.
        words_per_beat = self._bus_bits // 32
        beat = Signal(self._bus_bits, reset_less=True)
        words_left = Signal(range(words_per_beat + 1))
        word = beat[:32]
        take = Signal()
        have = words_left != 0
        m.d.comb += self.beats.ready.eq((words_left == 0) | ((words_left == 1) & take))
        with m.If(take & have):
            m.d.sync += [beat.eq(beat >> 32), words_left.eq(words_left - 1)]
        with m.If(self.beats.valid & self.beats.ready):
            m.d.sync += [beat.eq(self.beats.payload), words_left.eq(words_per_beat)]

        block_words = BLOCK.bits // 32
        header = Signal(layout_of(BLOCK), reset_less=True)
        count = Signal(range(256))
        row_words = -(-self._load_bits // 32)
        row = Signal(32 * row_words, reset_less=True)
        place = Signal(2)
        rows_left = Signal(32)
        address = Signal(len(self.load.row))
        first = Signal()
        good = Signal()

        strobe = Signal()
        m.d.sync += [strobe.eq(0), self.done.eq(0)]
        m.d.comb += [
            self.good.eq(good),
            self.load.enable.eq(strobe),
            self.load.target.eq(header.target),
            self.load.engine.eq(header.engine),
            self.load.unit.eq(header.unit),
            self.load.row.eq(address),
            self.load.data.eq(row),
        ]
        with m.If(take & have):
            m.d.sync += place.eq(place + 1)
        with m.If(strobe):
            m.d.sync += address.eq(address + 1)

        expected = HEADER.pack(version=ABI_VERSION, configuration=self._configuration)
        with m.FSM():
            with m.State("idle"), m.If(self.start):
                m.d.sync += [words_left.eq(0), place.eq(0), count.eq(0), first.eq(1), good.eq(0)]
                m.next = "header"
            with m.State("header"):
                m.d.comb += take.eq(1)
                with m.If(have):
                    m.d.sync += [
                        Value.cast(header).eq(Cat(Value.cast(header)[32:], word)),
                        count.eq(count + 1),
                    ]
                    with m.If(count == block_words - 1):
                        m.d.sync += count.eq(0)
                        m.next = "block"
            with m.State("block"):
                m.d.sync += [rows_left.eq(header.rows), address.eq(header.start), row.eq(0)]
                sensible = (
                    (header.magic == BLOCK_MAGIC)
                    & (header.row_words <= row_words)
                    & ((header.target == Target.HEADER) == first)
                )
                with m.If(~sensible):
                    m.next = "refuse"
                with m.Elif(header.target == Target.END):
                    m.d.sync += [good.eq(1), self.done.eq(1)]
                    m.next = "idle"
                with m.Elif(header.target == Target.CLEAR):
                    m.next = "clear"
                with m.Elif((header.rows == 0) | (header.row_words == 0)):
                    m.next = "align"
                with m.Else():
                    m.next = "row"
            with m.State("clear"):
                m.d.comb += self.clear.eq(1)
                with m.If(self.cleared):
                    m.next = "align"
            with m.State("row"):
                m.d.comb += take.eq(1)
                with m.If(have):
                    m.d.sync += [
                        row.word_select(count, 32).eq(word),
                        count.eq(count + 1),
                    ]
                    with m.If(count == header.row_words - 1):
                        m.d.sync += [
                            count.eq(0),
                            rows_left.eq(rows_left - 1),
                            strobe.eq(header.target != Target.HEADER),
                        ]
                        with m.If(rows_left == 1):
                            m.next = "check"
            with m.State("check"):
                m.d.sync += first.eq(0)
                m.next = "align"
                with m.If(first & (row != expected)):
                    m.next = "refuse"
            with m.State("align"):
                # Blocks begin at multiples of four words.
                m.d.comb += take.eq(place != 0)
                with m.If(place == 0):
                    m.next = "header"
            with m.State("refuse"):
                m.d.sync += self.done.eq(1)
                m.next = "idle"
        return m
