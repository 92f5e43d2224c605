"""The board's end of the serial link: requests in, what they ask for done, replies out."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from trencadis_hw import link
from trencadis_hw.axi.lite import AxiLiteInterface, AxiLiteSignature
from trencadis_hw.layouts import layout_of
from trencadis_hw.link import Answer, Operation
from trencadis_hw.serial.memory import WordPortInterface, WordPortSignature

__all__ = ["LinkBridge"]

WORD_BITS = 32
RESET_CYCLES = 16


class LinkBridge(wiring.Component):
    """Answer the requests of `trencadis_hw.link`, one after the other.

    A request is carried out after its CRC has been found right. While it is carried out and
    answered, no bytes are taken.

    Parameters
    ----------
    memory_words : int
        Size of the memory. A power of two.
    clock_khz : int
        Clock, for the host to know.
    idle_cycles : int
        Cycles without a byte after which an unfinished request is forgotten.

    Members
    -------
    i, o : stream
        Bytes from and to the host.
    words : Out(WordPortSignature)
        The memory.
    control : Out(AxiLiteSignature)
        The kernel's control port.
    reset : Out(1)
        Reset the kernel.
    """

    i: stream.Interface
    o: stream.Interface
    words: WordPortInterface
    control: AxiLiteInterface
    reset: Signal

    def __init__(self, *, memory_words: int, clock_khz: int, idle_cycles: int) -> None:
        if memory_words < 2 or memory_words & (memory_words - 1):
            raise ValueError(f"memory_words must be a power of two, not {memory_words}")
        if idle_cycles < 1:
            raise ValueError(f"idle_cycles must be positive, not {idle_cycles}")
        self._memory_words = memory_words
        self._clock_khz = clock_khz
        self._idle_cycles = idle_cycles
        bytes_ = stream.Signature(8)
        super().__init__(
            {
                "i": In(bytes_),
                "o": Out(bytes_),
                "words": Out(WordPortSignature()),
                "control": In(AxiLiteSignature()),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The stubs have its ports as expressions.
        crc: Any = CRC32_ISO_HDLC(data_width=8).create()
        m.submodules.crc = crc
        m.submodules.buffer = buffer = memory.Memory(
            shape=WORD_BITS, depth=link.MOST_WORDS, init=[], attrs={"ram_style": "block"}
        )
        fetch, store = buffer.read_port(), buffer.write_port()
        words, control = self.words, self.control

        header = Signal(layout_of(link.REQUEST))
        header_bytes = link.REQUEST.bits // 8
        step = Signal(range(header_bytes))  # byte of a header, of a word, or of the CRC
        word = Signal(WORD_BITS)  # bytes of it are received, summed, or sent
        index, last_word = Signal(8), Signal(8)  # word of the payload, and the last one
        word_address = Signal(30)
        words_left = Signal(WORD_BITS)
        returns = Signal()  # the reply has a payload, or words of it are still to come
        answer = Signal(Answer)
        sequence, sequence_known = Signal(8), Signal()
        reset_left = Signal(range(RESET_CYCLES + 1))
        idle = Signal(range(self._idle_cycles + 1))
        taken = Signal()
        operation = header.operation
        is_write = (operation == Operation.WRITE_MEMORY) | (operation == Operation.WRITE_REGISTERS)
        on_memory = (
            (operation == Operation.READ_MEMORY)
            | (operation == Operation.WRITE_MEMORY)
            | (operation == Operation.CHECKSUM)
        )
        identity_word = link.IDENTITY.pack(
            version=link.LINK_VERSION,
            memory_bytes=4 * self._memory_words,
            clock_khz=self._clock_khz,
        )
        identity = [
            Const(identity_word >> i & 0xFFFFFFFF, WORD_BITS)
            for i in range(0, link.IDENTITY.bits, WORD_BITS)
        ]
        m.d.comb += [
            taken.eq(self.i.valid & self.i.ready),
            fetch.addr.eq(index),
            store.addr.eq(index),
            words.address.eq(word_address),
            words.write_data.eq(fetch.data),
            control.awaddr.eq(word_address << 2),
            control.araddr.eq(word_address << 2),
            control.wdata.eq(fetch.data),
            control.wstrb.eq(15),
            self.reset.eq(reset_left != 0),
        ]
        with m.If(reset_left != 0):
            m.d.sync += reset_left.eq(reset_left - 1)

        def receive() -> None:
            """Take a byte of a request, or give up the request."""
            m.d.comb += [
                self.i.ready.eq(1),
                crc.data.eq(self.i.payload),
                crc.valid.eq(taken),
            ]
            m.d.sync += idle.eq(idle + 1)
            with m.If(taken):
                m.d.sync += [idle.eq(0), step.eq(step + 1)]
            with m.Elif(idle == self._idle_cycles):
                m.next = "hunt"

        def next_word(again: str) -> None:
            """Go on to the next word of the payload, or to the reply behind the last one."""
            m.d.sync += [index.eq(index + 1), word_address.eq(word_address + 1)]
            m.next = again
            with m.If(index == last_word):
                m.d.sync += index.eq(0)
                m.next = "reply"

        with m.FSM():
            with m.State("hunt"):
                m.d.comb += [
                    self.i.ready.eq(1),
                    crc.start.eq(1),
                    crc.data.eq(self.i.payload),
                    crc.valid.eq(taken),
                ]
                m.d.sync += [
                    step.eq(1),
                    index.eq(0),
                    idle.eq(0),
                    Value.cast(header).eq(link.REQUEST_SYNC << (link.REQUEST.bits - 8)),
                ]
                with m.If(taken & (self.i.payload == link.REQUEST_SYNC)):
                    m.next = "header"
            with m.State("header"):
                receive()
                with m.If(taken):
                    m.d.sync += Value.cast(header).eq(Cat(Value.cast(header)[8:], self.i.payload))
                    with m.If(step == header_bytes - 1):
                        m.d.sync += step.eq(0)
                        m.next = "decode"
            with m.State("decode"):
                m.d.sync += [last_word.eq(Mux(is_write, header.count, 0)), idle.eq(0)]
                m.next = "crc"
                with m.If(is_write | (operation == Operation.CHECKSUM)):
                    m.next = "payload"
            with m.State("payload"):
                receive()
                m.d.comb += store.data.eq(Cat(word[8:], self.i.payload))
                with m.If(taken):
                    m.d.sync += word.eq(store.data)
                    with m.If(step == 3):
                        m.d.comb += store.en.eq(1)
                        m.d.sync += [step.eq(0), index.eq(index + 1)]
                        with m.If(index == last_word):
                            m.d.sync += index.eq(0)
                            m.next = "crc"
            with m.State("crc"):
                receive()
                with m.If(taken & (step == link.CRC_BYTES - 1)):
                    m.d.sync += step.eq(0)
                    m.next = "length"
            with m.State("length"):
                # The length of a checksum is in the payload; `fetch` reads word 0 here.
                m.next = "judge"
            with m.State("judge"):
                length = Signal(32)
                m.d.comb += length.eq(header.count + 1)
                with m.If(operation == Operation.CHECKSUM):
                    m.d.comb += length.eq(fetch.data)
                first = header.address >> 2
                outside = (first >= self._memory_words) | (length > self._memory_words - first)
                repeated = sequence_known & (sequence == header.sequence)
                m.d.sync += [
                    word_address.eq(first),
                    words_left.eq(length),
                    answer.eq(Answer.DONE),
                    returns.eq(0),
                    last_word.eq(header.count),
                ]
                with m.If(~crc.match_detected):
                    m.d.sync += answer.eq(Answer.DAMAGED)
                    m.next = "reply"
                with m.Elif(on_memory & outside):
                    m.d.sync += answer.eq(Answer.OUTSIDE)
                    m.next = "reply"
                with m.Elif(repeated & (is_write | (operation == Operation.RESET))):
                    m.next = "reply"
                with m.Else():
                    m.d.sync += [sequence.eq(header.sequence), sequence_known.eq(1)]
                    with m.Switch(operation):
                        with m.Case(Operation.IDENTIFY):
                            m.d.sync += last_word.eq(len(identity) - 1)
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
                            m.d.comb += crc.start.eq(1)
                            m.d.sync += last_word.eq(0)
                            m.next = "sum read"
                        with m.Case(Operation.RESET):
                            m.d.sync += reset_left.eq(RESET_CYCLES)
                            m.next = "reply"
                        with m.Default():
                            m.d.sync += answer.eq(Answer.UNKNOWN)
                            m.next = "reply"

            with m.State("identify"):
                m.d.comb += [store.data.eq(Array(identity)[index]), store.en.eq(1)]
                m.d.sync += returns.eq(1)
                next_word(again="identify")
            with m.State("read memory"):
                m.d.comb += words.read.eq(1)
                m.next = "store memory"
            with m.State("store memory"):
                m.d.comb += [store.data.eq(words.read_data), store.en.eq(1)]
                m.d.sync += returns.eq(1)
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
                m.d.comb += [control.rready.eq(1), store.data.eq(control.rdata)]
                m.d.sync += returns.eq(1)
                with m.If(control.rvalid):
                    m.d.comb += store.en.eq(1)
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
                with m.If(words_left == 0):
                    m.next = "sum end"
            with m.State("sum take"):
                m.d.sync += [
                    word.eq(words.read_data),
                    words_left.eq(words_left - 1),
                    word_address.eq(word_address + 1),
                    step.eq(0),
                ]
                m.next = "sum bytes"
            with m.State("sum bytes"):
                m.d.comb += [crc.data.eq(word[:8]), crc.valid.eq(1)]
                m.d.sync += [word.eq(word >> 8), step.eq(step + 1)]
                with m.If(step == 3):
                    m.d.sync += step.eq(0)
                    m.next = "sum read"
            with m.State("sum end"):
                m.d.comb += [store.data.eq(crc.crc), store.en.eq(1)]
                m.d.sync += [returns.eq(1), step.eq(0)]
                m.next = "reply"

            with m.State("reply"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [
                    step.eq(0),
                    word.eq(
                        Cat(
                            Const(link.REPLY_SYNC, 8),
                            Value.cast(answer) | Const(0, 8),
                            header.sequence,
                            Mux(returns, last_word, 0),
                        )
                    ),
                ]
                m.next = "send word"
            with m.State("send word"):
                # The header, then words of the payload.
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(word[:8]),
                    crc.data.eq(word[:8]),
                    crc.valid.eq(self.o.ready),
                ]
                with m.If(self.o.ready):
                    m.d.sync += [word.eq(word >> 8), step.eq(step + 1)]
                    with m.If(step == 3):
                        m.d.sync += step.eq(0)
                        m.next = "send crc"
                        with m.If(returns):
                            m.next = "fetch"
            with m.State("fetch"):
                m.next = "fetched"
            with m.State("fetched"):
                m.d.sync += [
                    word.eq(fetch.data),
                    index.eq(index + 1),
                    returns.eq(index != last_word),
                ]
                m.next = "send word"
            with m.State("send crc"):
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(crc.crc.word_select(step, 8)),
                ]
                with m.If(self.o.ready):
                    m.d.sync += step.eq(step + 1)
                    with m.If(step == link.CRC_BYTES - 1):
                        m.d.sync += step.eq(0)
                        m.next = "hunt"
        return m
