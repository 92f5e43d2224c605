"""Receiving a request: its header, its payload, its CRC."""

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib import stream

from trencadis_format import link
from trencadis_format.link import Operation
from trencadis_hw.serial.exchange import Exchange

__all__ = ["add_receiving"]


def add_receiving(m: Module, x: Exchange, i: stream.Interface, *, idle_cycles: int) -> None:
    """Add the states from "hunt" to the last byte of the CRC; they lead to "length".

    Parameters
    ----------
    m : Module
        Inside its state machine.
    x : Exchange
        What the states share.
    i : stream
        Bytes from the host.
    idle_cycles : int
        Cycles without a byte after which the request is given up.
    """
    header_bytes = link.REQUEST.bits // 8

    def receive() -> None:
        """Take a byte of a request, or give up the request."""
        m.d.comb += [
            i.ready.eq(1),
            x.crc.data.eq(i.payload),
            x.crc.valid.eq(x.taken),
        ]
        m.d.sync += x.idle.eq(x.idle + 1)
        with m.If(x.taken):
            m.d.sync += [x.idle.eq(0), x.step.eq(x.step + 1)]
        with m.Elif(x.idle == idle_cycles):
            m.next = "hunt"

    with m.State("hunt"):
        m.d.comb += [
            i.ready.eq(1),
            x.crc.start.eq(1),
            x.crc.data.eq(i.payload),
            x.crc.valid.eq(x.taken),
        ]
        m.d.sync += [
            x.step.eq(1),
            x.index.eq(0),
            x.idle.eq(0),
            Value.cast(x.header).eq(link.REQUEST_SYNC << (link.REQUEST.bits - 8)),
        ]
        with m.If(x.taken & (i.payload == link.REQUEST_SYNC)):
            m.next = "header"
    with m.State("header"):
        receive()
        with m.If(x.taken):
            m.d.sync += Value.cast(x.header).eq(Cat(Value.cast(x.header)[8:], i.payload))
            with m.If(x.step == header_bytes - 1):
                m.d.sync += x.step.eq(0)
                m.next = "decode"
    with m.State("decode"):
        m.d.sync += [x.last_word.eq(Mux(x.is_write, x.header.count, 0)), x.idle.eq(0)]
        m.next = "crc"
        with m.If(x.is_write | (x.operation == Operation.CHECKSUM)):
            m.next = "payload"
    with m.State("payload"):
        receive()
        m.d.comb += x.store.data.eq(Cat(x.word[8:], i.payload))
        with m.If(x.taken):
            m.d.sync += x.word.eq(x.store.data)
            with m.If(x.step == 3):
                m.d.comb += x.store.en.eq(1)
                m.d.sync += [x.step.eq(0), x.index.eq(x.index + 1)]
                with m.If(x.index == x.last_word):
                    m.d.sync += x.index.eq(0)
                    m.next = "crc"
    with m.State("crc"):
        receive()
        with m.If(x.taken & (x.step == link.CRC_BYTES - 1)):
            m.d.sync += x.step.eq(0)
            m.next = "length"
