"""Judging a request: whether it is whole, new, and within the memory."""

from amaranth.hdl import Module, Signal

from trencadis_format.link import Answer, Operation
from trencadis_hw.serial.exchange import IDENTITY_WORDS, Exchange

__all__ = ["RESET_CYCLES", "add_judging"]

RESET_CYCLES = 16
"""Cycles for which the kernel is reset."""


def add_judging(m: Module, x: Exchange, *, memory_words: int) -> None:
    """Add the states that choose what a request asks for; they lead there, or to "reply".

    Parameters
    ----------
    m : Module
        Inside its state machine.
    x : Exchange
        What the states share.
    memory_words : int
        Size of the memory.
    """
    with m.State("length"):
        # The length of a checksum is in the payload; `fetch` reads word 0 here.
        m.next = "judge"
    with m.State("judge"):
        length = Signal(32)
        m.d.comb += length.eq(x.header.count + 1)
        with m.If(x.operation == Operation.CHECKSUM):
            m.d.comb += length.eq(x.fetch.data)
        first = x.header.address >> 2
        outside = (first >= memory_words) | (length > memory_words - first)
        repeated = x.sequence_known & (x.sequence == x.header.sequence)
        m.d.sync += [
            x.word_address.eq(first),
            x.words_left.eq(length),
            x.answer.eq(Answer.DONE),
            x.returns.eq(0),
            x.last_word.eq(x.header.count),
        ]
        with m.If(~x.crc.match_detected):
            m.d.sync += x.answer.eq(Answer.DAMAGED)
            m.next = "reply"
        with m.Elif(x.on_memory & outside):
            m.d.sync += x.answer.eq(Answer.OUTSIDE)
            m.next = "reply"
        with m.Elif(repeated & (x.is_write | (x.operation == Operation.RESET))):
            m.next = "reply"
        with m.Else():
            m.d.sync += [x.sequence.eq(x.header.sequence), x.sequence_known.eq(1)]
            with m.Switch(x.operation):
                with m.Case(Operation.IDENTIFY):
                    m.d.sync += x.last_word.eq(IDENTITY_WORDS - 1)
                    m.next = "identify"
                with m.Case(Operation.READ_MEMORY):
                    m.next = "read memory"
                with m.Case(Operation.WRITE_MEMORY):
                    m.next = "fetch for memory"
                with m.Case(Operation.READ_REGISTERS):
                    m.next = "ask register"
                with m.Case(Operation.WRITE_REGISTERS):
                    m.next = "fetch for register"
                with m.Case(Operation.CHECKSUM):
                    m.d.comb += x.crc.start.eq(1)
                    m.d.sync += x.last_word.eq(0)
                    m.next = "sum read"
                with m.Case(Operation.RESET):
                    m.d.sync += x.reset_left.eq(RESET_CYCLES)
                    m.next = "reply"
                with m.Default():
                    m.d.sync += x.answer.eq(Answer.UNKNOWN)
                    m.next = "reply"
