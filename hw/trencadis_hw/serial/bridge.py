"""The board's end of the serial link: requests in, what they ask for done, replies out."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format import link
from trencadis_hw.axi.lite import AxiLiteInterface, AxiLiteSignature
from trencadis_hw.serial.exchange import WORD_BITS, Exchange
from trencadis_hw.serial.judging import RESET_CYCLES, add_judging
from trencadis_hw.serial.memory import WordPortInterface, WordPortSignature
from trencadis_hw.serial.operations import add_operations
from trencadis_hw.serial.receiving import add_receiving
from trencadis_hw.serial.replying import add_replying

__all__ = ["LinkBridge"]


class LinkBridge(wiring.Component):
    """Answer the requests of `trencadis_format.link`, one after the other.

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
        x = Exchange.create(m, idle_cycles=self._idle_cycles, reset_cycles=RESET_CYCLES)
        words, control = self.words, self.control
        m.d.comb += [
            x.taken.eq(self.i.valid & self.i.ready),
            words.address.eq(x.word_address),
            words.write_data.eq(x.fetch.data),
            control.awaddr.eq(x.word_address << 2),
            control.araddr.eq(x.word_address << 2),
            control.wdata.eq(x.fetch.data),
            control.wstrb.eq(15),
            self.reset.eq(x.reset_left != 0),
        ]
        with m.If(x.reset_left != 0):
            m.d.sync += x.reset_left.eq(x.reset_left - 1)
        identity = link.IDENTITY.pack(
            version=link.LINK_VERSION,
            memory_bytes=WORD_BITS // 8 * self._memory_words,
            clock_khz=self._clock_khz,
        )
        with m.FSM():
            add_receiving(m, x, self.i, idle_cycles=self._idle_cycles)
            add_judging(m, x, memory_words=self._memory_words)
            add_operations(m, x, words, control, identity)
            add_replying(m, x, self.o)
        return m
