"""On-chip memory that a kernel reaches through AXI4, and somebody else word by word."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw.axi.full import (
    AxiReadInterface,
    AxiReadSignature,
    AxiWriteInterface,
    AxiWriteSignature,
)
from trencadis_hw.interface.streams import Queue

__all__ = ["AxiMemory", "WordPortInterface", "WordPortSignature"]

DECODE_ERROR = 3
WORD_BITS = 32


class WordPortInterface(wiring.PureInterface):
    """A word port; its members are those of `WordPortSignature`."""

    address: Signal
    read: Signal
    write: Signal
    write_data: Signal
    read_data: Signal


class WordPortSignature(wiring.Signature):
    """32-bit words of a memory, as their user has them.

    Members
    -------
    address : Out(30)
        Number of the word.
    read, write : Out(1)
        What to do in this cycle; not both.
    write_data : Out(32)
        Word to write.
    read_data : In(32)
        The word read, in the cycle after.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "address": Out(30),
                "read": Out(1),
                "write": Out(1),
                "write_data": Out(WORD_BITS),
                "read_data": In(WORD_BITS),
            }
        )

    def create(self, *, path: Any = None, src_loc_at: int = 0) -> WordPortInterface:
        """Make a port, as `wiring.Signature.create` does."""
        return WordPortInterface(self, path=path, src_loc_at=1 + src_loc_at)


class AxiMemory(wiring.Component):
    """A memory of one write and one read port, shared by an AXI4 master and a word port.

    The word port comes first. One beat per cycle, one burst at a time in each direction. Bursts
    must be of whole beats with rising addresses, as `AxiReader` and `AxiWriter` make them; beats
    outside the memory are answered with an error.

    Parameters
    ----------
    bits : int
        Width of a beat.
    beats : int
        Size.

    Members
    -------
    read, write : In(AxiReadSignature), In(AxiWriteSignature)
        The AXI4 port.
    words : In(WordPortSignature)
        The word port. Words outside the memory wrap around.
    """

    read: AxiReadInterface
    write: AxiWriteInterface
    words: WordPortInterface

    def __init__(self, *, bits: int, beats: int) -> None:
        if beats < 2 or beats & (beats - 1):
            raise ValueError(f"beats must be a power of two, not {beats}")
        self._bits, self._beats = bits, beats
        super().__init__(
            {
                "read": In(AxiReadSignature(bits)),
                "write": In(AxiWriteSignature(bits)),
                "words": In(WordPortSignature()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.contents = contents = memory.Memory(
            shape=self._bits, depth=self._beats, init=[], attrs={"ram_style": "block"}
        )
        reader, writer = contents.read_port(), contents.write_port(granularity=8)
        shift = (self._bits // 8 - 1).bit_length()
        per_beat = self._bits // WORD_BITS
        place_bits = (per_beat - 1).bit_length()
        words = self.words
        place, row = words.address[:place_bits], words.address[place_bits:]

        # Reading.
        address, left = Signal(64 - shift), Signal(9)
        m.submodules.queue = queue = Queue(
            data.StructLayout({"data": self._bits, "bad": 1, "last": 1}), 4
        )
        read = self.read
        issue, issued, bad, last = Signal(), Signal(), Signal(), Signal()
        chosen = Signal.like(place)
        m.d.comb += [
            read.arready.eq(left == 0),
            issue.eq((left != 0) & (queue.level + issued < 3) & ~words.read),
            reader.addr.eq(Mux(words.read, row, address)),
            queue.i.valid.eq(issued),
            queue.i.payload.data.eq(reader.data),
            queue.i.payload.bad.eq(bad),
            queue.i.payload.last.eq(last),
            read.rvalid.eq(queue.o.valid),
            read.rdata.eq(queue.o.payload.data),
            read.rresp.eq(Mux(queue.o.payload.bad, DECODE_ERROR, 0)),
            read.rlast.eq(queue.o.payload.last),
            queue.o.ready.eq(read.rready),
            words.read_data.eq(reader.data.word_select(chosen, WORD_BITS)),
        ]
        m.d.sync += [issued.eq(issue), chosen.eq(place)]
        with m.If(read.arvalid & read.arready):
            m.d.sync += [address.eq(read.araddr[shift:]), left.eq(read.arlen + 1)]
        with m.If(issue):
            m.d.sync += [
                address.eq(address + 1),
                left.eq(left - 1),
                bad.eq(address >= self._beats),
                last.eq(left == 1),
            ]

        # Writing.
        write = self.write
        write_address = Signal(64 - shift)
        writing, failed, outside = Signal(), Signal(), Signal()
        strobe = Signal(self._bits // 8)
        word_strobe = Const((1 << WORD_BITS // 8) - 1, len(strobe))
        m.d.comb += [
            write.awready.eq(~writing & ~write.bvalid),
            write.wready.eq(writing & ~words.write),
            write.bresp.eq(Mux(failed, DECODE_ERROR, 0)),
            outside.eq(write_address >= self._beats),
            writer.addr.eq(write_address),
            writer.data.eq(write.wdata),
            strobe.eq(
                write.wstrb & (write.wvalid & write.wready & ~outside).replicate(len(strobe))
            ),
            writer.en.eq(strobe),
        ]
        with m.If(words.write):
            m.d.comb += [
                writer.addr.eq(row),
                writer.data.eq(Cat(words.write_data for _ in range(per_beat))),
                writer.en.eq(word_strobe << (place << 2)),
            ]
        with m.If(write.awvalid & write.awready):
            m.d.sync += [write_address.eq(write.awaddr[shift:]), writing.eq(1), failed.eq(0)]
        with m.If(write.wvalid & write.wready):
            m.d.sync += [write_address.eq(write_address + 1), failed.eq(failed | outside)]
            with m.If(write.wlast):
                m.d.sync += [writing.eq(0), write.bvalid.eq(1)]
        with m.If(write.bvalid & write.bready):
            m.d.sync += write.bvalid.eq(0)
        return m
