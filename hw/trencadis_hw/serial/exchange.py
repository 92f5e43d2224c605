"""Registers that the states of the link's bridge share: a request, its payload, and the reply."""

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, memory
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC

from trencadis_format import link
from trencadis_format.link import Answer, Operation
from trencadis_hw.interface.layouts import layout_of

__all__ = ["IDENTITY_WORDS", "WORD_BITS", "Exchange"]

WORD_BITS = 32
IDENTITY_WORDS = link.IDENTITY.bits // WORD_BITS


@dataclass(frozen=True)
class Exchange:
    """A request and its reply.

    Attributes
    ----------
    header : View
        The request's header.
    step : Signal
        Byte of a header, of a word, or of the CRC.
    word : Signal
        Bytes of it are received, summed, or sent.
    index, last_word : Signal
        Word of the payload, and its last one.
    word_address, words_left : Signal
        Word of the memory or register; words that a checksum has still to read.
    returns : Signal
        The reply has a payload, or words of it are still to come.
    answer : Signal
        What the reply says.
    sequence, sequence_known : Signal
        Number of the last request that was carried out, if there was one.
    idle : Signal
        Cycles without a byte.
    reset_left : Signal
        Cycles for which the kernel is still reset.
    taken : Signal
        A byte is received in this cycle.
    fetch, store : ports
        The payload's memory, at `index`.
    crc : component
        The CRC of what is received or sent.
    """

    header: data.View
    step: Signal
    word: Signal
    index: Signal
    last_word: Signal
    word_address: Signal
    words_left: Signal
    returns: Signal
    answer: Signal
    sequence: Signal
    sequence_known: Signal
    idle: Signal
    reset_left: Signal
    taken: Signal
    fetch: memory.ReadPort
    store: memory.WritePort
    crc: Any

    @classmethod
    def create(cls, m: Module, *, idle_cycles: int, reset_cycles: int) -> "Exchange":
        """Make registers, payload memory and CRC, and add the latter two to a module."""
        # The stubs have its ports as expressions.
        crc: Any = CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.crc = crc
        m.submodules.buffer = buffer = memory.Memory(
            shape=WORD_BITS, depth=link.MAX_WORDS, init=[], attrs={"ram_style": "block"}
        )
        count = range(link.MAX_WORDS)
        made = cls(
            header=Signal(layout_of(link.REQUEST), name="header"),
            step=Signal(range(link.REQUEST.bits // 8), name="step"),
            word=Signal(WORD_BITS, name="word"),
            index=Signal(count, name="index"),
            last_word=Signal(count, name="last_word"),
            word_address=Signal(WORD_BITS - 2, name="word_address"),
            words_left=Signal(WORD_BITS, name="words_left"),
            returns=Signal(name="returns"),
            answer=Signal(Answer, name="answer"),
            sequence=Signal(link.REQUEST["sequence"].bits, name="sequence"),
            sequence_known=Signal(name="sequence_known"),
            idle=Signal(range(idle_cycles + 1), name="idle"),
            reset_left=Signal(range(reset_cycles + 1), name="reset_left"),
            taken=Signal(name="taken"),
            fetch=buffer.read_port(),
            store=buffer.write_port(),
            crc=crc,
        )
        m.d.comb += [made.fetch.addr.eq(made.index), made.store.addr.eq(made.index)]
        return made

    @property
    def operation(self) -> Value:
        """The request's `Operation`."""
        return self.header.operation

    @property
    def is_write(self) -> Value:
        """The request has a payload that is to be written."""
        return (self.operation == Operation.WRITE_MEMORY) | (
            self.operation == Operation.WRITE_REGISTERS
        )

    @property
    def on_memory(self) -> Value:
        """The request is about the memory."""
        return (
            (self.operation == Operation.READ_MEMORY)
            | (self.operation == Operation.WRITE_MEMORY)
            | (self.operation == Operation.CHECKSUM)
        )
