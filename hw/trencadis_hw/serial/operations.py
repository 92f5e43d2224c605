"""Carrying out what a request asks for, word by word."""

from amaranth.hdl import Array, Const, Module

from trencadis_format import link
from trencadis_hw.axi.lite import AxiLiteInterface
from trencadis_hw.serial.exchange import WORD_BITS, Exchange
from trencadis_hw.serial.memory import WordPortInterface

__all__ = ["add_operations"]


def add_operations(
    m: Module, x: Exchange, words: WordPortInterface, control: AxiLiteInterface, identity: int
) -> None:
    """Add the states of all operations; they lead to "reply".

    Parameters
    ----------
    m : Module
        Inside its state machine.
    x : Exchange
        What the states share.
    words, control : interfaces
        The memory, and the kernel's control port.
    identity : int
        What the board says that it is: `link.IDENTITY`, packed.
    """
    identity_words = [
        Const(identity >> i & 0xFFFFFFFF, WORD_BITS)
        for i in range(0, link.IDENTITY.bits, WORD_BITS)
    ]

    def next_word(again: str) -> None:
        """Go on to the next word of the payload, or to the reply after the last one."""
        m.d.sync += [x.index.eq(x.index + 1), x.word_address.eq(x.word_address + 1)]
        m.next = again
        with m.If(x.index == x.last_word):
            m.d.sync += x.index.eq(0)
            m.next = "reply"

    with m.State("identify"):
        m.d.comb += [x.store.data.eq(Array(identity_words)[x.index]), x.store.en.eq(1)]
        m.d.sync += x.returns.eq(1)
        next_word(again="identify")
    with m.State("read memory"):
        m.d.comb += words.read.eq(1)
        m.next = "store memory"
    with m.State("store memory"):
        m.d.comb += [x.store.data.eq(words.read_data), x.store.en.eq(1)]
        m.d.sync += x.returns.eq(1)
        next_word(again="read memory")
    with m.State("fetch for memory"):
        m.next = "write memory"
    with m.State("write memory"):
        m.d.comb += words.write.eq(1)
        next_word(again="fetch for memory")
    with m.State("ask register"):
        m.d.comb += control.arvalid.eq(1)
        with m.If(control.arready):
            m.next = "store register"
    with m.State("store register"):
        m.d.comb += [control.rready.eq(1), x.store.data.eq(control.rdata)]
        m.d.sync += x.returns.eq(1)
        with m.If(control.rvalid):
            m.d.comb += x.store.en.eq(1)
            next_word(again="ask register")
    with m.State("fetch for register"):
        m.d.sync += [control.awvalid.eq(1), control.wvalid.eq(1)]
        m.next = "write register"
    with m.State("write register"):
        m.d.comb += control.bready.eq(1)
        with m.If(control.awready):
            m.d.sync += control.awvalid.eq(0)
        with m.If(control.wready):
            m.d.sync += control.wvalid.eq(0)
        with m.If(control.bvalid):
            next_word(again="fetch for register")
    with m.State("sum read"):
        m.d.comb += words.read.eq(1)
        m.next = "sum take"
        with m.If(x.words_left == 0):
            m.next = "sum end"
    with m.State("sum take"):
        m.d.sync += [
            x.word.eq(words.read_data),
            x.words_left.eq(x.words_left - 1),
            x.word_address.eq(x.word_address + 1),
            x.step.eq(0),
        ]
        m.next = "sum bytes"
    with m.State("sum bytes"):
        m.d.comb += [x.crc.data.eq(x.word[:8]), x.crc.valid.eq(1)]
        m.d.sync += [x.word.eq(x.word >> 8), x.step.eq(x.step + 1)]
        with m.If(x.step == 3):
            m.d.sync += x.step.eq(0)
            m.next = "sum read"
    with m.State("sum end"):
        m.d.comb += [x.store.data.eq(x.crc.crc), x.store.en.eq(1)]
        m.d.sync += [x.returns.eq(1), x.step.eq(0)]
        m.next = "reply"
