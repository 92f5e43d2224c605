"""Replying to a request: header, payload, CRC."""

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import stream

from trencadis_format import link
from trencadis_hw.serial.exchange import Exchange

__all__ = ["add_replying"]


def add_replying(m: Module, x: Exchange, o: stream.Interface) -> None:
    """Add the states from "reply" on; they lead to "hunt".

    Parameters
    ----------
    m : Module
        Inside its state machine.
    x : Exchange
        What the states share.
    o : stream
        Bytes to the host.
    """
    with m.State("reply"):
        m.d.comb += x.crc.start.eq(1)
        m.d.sync += [
            x.step.eq(0),
            x.word.eq(
                Cat(
                    Const(link.REPLY_SYNC, 8),
                    Value.cast(x.answer) | Const(0, 8),
                    x.header.sequence,
                    Mux(x.returns, x.last_word, 0),
                )
            ),
        ]
        m.next = "send word"
    with m.State("send word"):
        # The header, then words of the payload.
        m.d.comb += [
            o.valid.eq(1),
            o.payload.eq(x.word[:8]),
            x.crc.data.eq(x.word[:8]),
            x.crc.valid.eq(o.ready),
        ]
        with m.If(o.ready):
            m.d.sync += [x.word.eq(x.word >> 8), x.step.eq(x.step + 1)]
            with m.If(x.step == 3):
                m.d.sync += x.step.eq(0)
                m.next = "send crc"
                with m.If(x.returns):
                    m.next = "fetch"
    with m.State("fetch"):
        m.next = "fetched"
    with m.State("fetched"):
        m.d.sync += [
            x.word.eq(x.fetch.data),
            x.index.eq(x.index + 1),
            x.returns.eq(x.index != x.last_word),
        ]
        m.next = "send word"
    with m.State("send crc"):
        m.d.comb += [
            o.valid.eq(1),
            o.payload.eq(x.crc.crc.word_select(x.step, 8)),
        ]
        with m.If(o.ready):
            m.d.sync += x.step.eq(x.step + 1)
            with m.If(x.step == link.CRC_BYTES - 1):
                m.d.sync += x.step.eq(0)
                m.next = "hunt"
