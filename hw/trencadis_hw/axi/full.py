"""AXI4 master ports: reading and writing long runs of beats."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw.interface.streams import Queue, RegisterSlice, connect_streams

__all__ = [
    "AxiReadInterface",
    "AxiReadSignature",
    "AxiReader",
    "AxiWriteInterface",
    "AxiWriteSignature",
    "AxiWriter",
    "transfer_layout",
]

ADDRESS_BITS = 64
PAGE_BYTES = 4096
"""A burst must not cross a multiple of this."""

MAX_BURST = 256
"""Beats of a burst, by AXI4."""


class AxiReadInterface(wiring.PureInterface):
    """The read channels of an AXI4 master; its members are those of `AxiReadSignature`."""

    araddr: Signal
    arlen: Signal
    arsize: Signal
    arburst: Signal
    arvalid: Signal
    arready: Signal
    rdata: Signal
    rresp: Signal
    rlast: Signal
    rvalid: Signal
    rready: Signal


class AxiReadSignature(wiring.Signature):
    """The read channels of an AXI4 master without IDs.

    Parameters
    ----------
    bits : int
        Width of the data.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(
            {
                "araddr": Out(ADDRESS_BITS),
                "arlen": Out(8),
                "arsize": Out(3),
                "arburst": Out(2),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(bits),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )

    def create(self, *, path: Any = None, src_loc_at: int = 0) -> AxiReadInterface:
        """Make a port, as `wiring.Signature.create` does."""
        return AxiReadInterface(self, path=path, src_loc_at=1 + src_loc_at)


class AxiWriteInterface(wiring.PureInterface):
    """The write channels of an AXI4 master; its members are those of `AxiWriteSignature`."""

    awaddr: Signal
    awlen: Signal
    awsize: Signal
    awburst: Signal
    awvalid: Signal
    awready: Signal
    wdata: Signal
    wstrb: Signal
    wlast: Signal
    wvalid: Signal
    wready: Signal
    bresp: Signal
    bvalid: Signal
    bready: Signal


class AxiWriteSignature(wiring.Signature):
    """The write channels of an AXI4 master without IDs.

    Parameters
    ----------
    bits : int
        Width of the data.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(
            {
                "awaddr": Out(ADDRESS_BITS),
                "awlen": Out(8),
                "awsize": Out(3),
                "awburst": Out(2),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(bits),
                "wstrb": Out(bits // 8),
                "wlast": Out(1),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )

    def create(self, *, path: Any = None, src_loc_at: int = 0) -> AxiWriteInterface:
        """Make a port, as `wiring.Signature.create` does."""
        return AxiWriteInterface(self, path=path, src_loc_at=1 + src_loc_at)


def transfer_layout() -> data.StructLayout:
    """A run of `beats` beats from `address` on; both aligned to a beat."""
    return data.StructLayout({"address": ADDRESS_BITS, "beats": 32})


class _Bursts(wiring.Component):
    """Cut a transfer into bursts of `longest` beats, and less at its ends, that cross no page.

    All but the first begin at a multiple of their length: to where the next one begins are few
    bits to look at.

    Members
    -------
    transfers : In(stream of transfer_layout)
        What to cut; one of 0 beats vanishes.
    bursts : Out(stream)
        `address`, and `length`: beats less one. 1 cycle apart.
    busy : Out(1)
        A transfer is being cut.
    """

    transfers: stream.Interface
    bursts: stream.Interface
    busy: Signal

    def __init__(self, *, bits: int, longest: int) -> None:
        most = min(MAX_BURST, PAGE_BYTES * 8 // bits)
        if not 1 <= longest <= most or longest & (longest - 1):
            raise ValueError(f"longest must be a power of two up to {most}, not {longest}")
        self._bytes_log2 = (bits // 8 - 1).bit_length()
        self._longest = longest
        burst = data.StructLayout({"address": ADDRESS_BITS, "length": 8})
        super().__init__(
            {
                "transfers": In(stream.Signature(transfer_layout())),
                "bursts": Out(stream.Signature(burst)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shift = self._bytes_log2
        address, left = Signal(ADDRESS_BITS), Signal(32)
        limit, length = Signal(range(self._longest + 1)), Signal(range(self._longest + 1))
        place = address[shift : shift + (self._longest - 1).bit_length()]
        short = (left[len(limit) :] == 0) & (left[: len(limit)] < limit)
        m.d.comb += [
            limit.eq(self._longest - place),
            length.eq(Mux(short, left, limit)),
            self.busy.eq(left != 0),
            self.transfers.ready.eq(~self.busy),
        ]
        # A burst is registered, so that its long arithmetic ends before the port.
        with m.If(~self.bursts.valid | self.bursts.ready):
            m.d.sync += [
                self.bursts.valid.eq(self.busy),
                self.bursts.payload.address.eq(address),
                self.bursts.payload.length.eq(length - 1),
            ]
            with m.If(self.busy):
                m.d.sync += [
                    address.eq(address + (length << shift)),
                    left.eq(left - length),
                ]
        with m.If(self.transfers.valid & self.transfers.ready):
            m.d.sync += [
                address.eq(self.transfers.payload.address),
                left.eq(self.transfers.payload.beats),
            ]
        return m


class AxiReader(wiring.Component):
    """Read transfers, several bursts ahead, as a stream of beats.

    Bursts are asked for only when the queue has room for them, so the port never waits on R.

    Parameters
    ----------
    bits : int
        Width of the data.
    longest : int
        Beats of the longest burst: a power of two.
    depth : int
        Beats the queue holds.

    Members
    -------
    transfers : In(stream of transfer_layout)
        What to read.
    beats : Out(stream)
        The beats, in order.
    axi : Out(AxiReadSignature)
        The port.
    stop : In(1)
        Ask for no more bursts and throw away all beats, until not `busy`; the transfer is lost.
    busy : Out(1)
        Beats are still to come or to be taken.
    error : Out(1)
        A beat came with an error, the cycle before.
    """

    transfers: stream.Interface
    beats: stream.Interface
    axi: AxiReadInterface
    stop: Signal
    busy: Signal
    error: Signal

    def __init__(self, *, bits: int, longest: int = 16, depth: int = 64) -> None:
        if depth < 2 * longest:
            raise ValueError(f"depth must hold two bursts of {longest} beats, not {depth}")
        self._bits, self._depth = bits, depth
        self._bursts = _Bursts(bits=bits, longest=longest)
        super().__init__(
            {
                "transfers": In(stream.Signature(transfer_layout())),
                "beats": Out(stream.Signature(bits)),
                "axi": Out(AxiReadSignature(bits)),
                "stop": In(1),
                "busy": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        m.submodules.bursts = cutter = self._bursts
        m.submodules.queue = queue = Queue(self._bits, self._depth)
        connect_streams(m, source=wiring.flipped(self.transfers), sink=cutter.transfers)
        burst = cutter.bursts

        # Beats asked for and not yet taken from the queue.
        claimed = Signal(range(self._depth + 1))
        asked, came, taken = Signal(9), Signal(), Signal()
        room = Signal()
        m.d.comb += [
            room.eq(claimed + burst.payload.length < self._depth),
            axi.araddr.eq(burst.payload.address),
            axi.arlen.eq(burst.payload.length),
            axi.arsize.eq((self._bits // 8 - 1).bit_length()),
            axi.arburst.eq(1),
            axi.rready.eq(1),
            queue.i.payload.eq(axi.rdata),
            came.eq(axi.rvalid & axi.rready),
            queue.i.valid.eq(came & ~self.stop),
            self.busy.eq(cutter.busy | burst.valid | (claimed != 0)),
        ]
        # An offered address must stay offered, so `room` counts only for the first offer.
        offered = Signal()
        m.d.comb += axi.arvalid.eq(burst.valid & (offered | (room & ~self.stop)))
        m.d.sync += offered.eq(axi.arvalid & ~axi.arready)
        with m.If(axi.arvalid & axi.arready):
            m.d.comb += [burst.ready.eq(1), asked.eq(burst.payload.length + 1)]
        with m.If(self.stop & ~axi.arvalid):
            m.d.comb += burst.ready.eq(1)
        connect_streams(m, source=queue.o, sink=wiring.flipped(self.beats))
        with m.If(self.stop):
            m.d.comb += [queue.o.ready.eq(1), self.beats.valid.eq(0)]
        m.d.comb += taken.eq(queue.o.valid & queue.o.ready)
        m.d.sync += claimed.eq(claimed + asked - taken - (came & self.stop))
        m.d.sync += self.error.eq(came & axi.rresp[1])
        return m


class AxiWriter(wiring.Component):
    """Write a stream of beats as transfers.

    Parameters
    ----------
    bits : int
        Width of the data.
    longest : int
        Beats of the longest burst: a power of two.

    Members
    -------
    transfers : In(stream of transfer_layout)
        Where to write.
    beats : In(stream)
        What to write.
    axi : Out(AxiWriteSignature)
        The port.
    stop : In(1)
        Begin no more bursts, and fill up the one under way with beats that are not written.
    busy : Out(1)
        Beats, or answers to them, are still to come.
    error : Out(1)
        A burst was answered with an error, the cycle before.
    """

    transfers: stream.Interface
    beats: stream.Interface
    axi: AxiWriteInterface
    stop: Signal
    busy: Signal
    error: Signal

    def __init__(self, *, bits: int, longest: int = 16) -> None:
        self._bits = bits
        self._bursts = _Bursts(bits=bits, longest=longest)
        super().__init__(
            {
                "transfers": In(stream.Signature(transfer_layout())),
                "beats": In(stream.Signature(bits)),
                "axi": Out(AxiWriteSignature(bits)),
                "stop": In(1),
                "busy": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.axi
        m.submodules.bursts = cutter = self._bursts
        connect_streams(m, source=wiring.flipped(self.transfers), sink=cutter.transfers)
        burst = cutter.bursts

        # Registered, so that what is on the port does not change under `stop`.
        shape = data.StructLayout({"data": self._bits, "strobe": self._bits // 8, "last": 1})
        m.submodules.beat = beat = RegisterSlice(shape)

        left = Signal(9)
        answers = Signal(8)
        begin, answered = Signal(), Signal()
        offered = Signal()
        m.d.comb += [
            axi.awaddr.eq(burst.payload.address),
            axi.awlen.eq(burst.payload.length),
            axi.awsize.eq((self._bits // 8 - 1).bit_length()),
            axi.awburst.eq(1),
            axi.awvalid.eq(burst.valid & (offered | ((left == 0) & (answers < 64) & ~self.stop))),
            begin.eq(axi.awvalid & axi.awready),
            burst.ready.eq(begin | (self.stop & ~axi.awvalid)),
            beat.i.payload.data.eq(self.beats.payload),
            beat.i.payload.strobe.eq(~self.stop.replicate(self._bits // 8)),
            beat.i.payload.last.eq(left == 1),
            beat.i.valid.eq((left != 0) & (self.beats.valid | self.stop)),
            self.beats.ready.eq(((left != 0) & beat.i.ready) | self.stop),
            axi.wdata.eq(beat.o.payload.data),
            axi.wstrb.eq(beat.o.payload.strobe),
            axi.wlast.eq(beat.o.payload.last),
            axi.wvalid.eq(beat.o.valid),
            beat.o.ready.eq(axi.wready),
            axi.bready.eq(1),
            answered.eq(axi.bvalid & axi.bready),
            self.busy.eq(cutter.busy | burst.valid | (left != 0) | (answers != 0)),
        ]
        m.d.sync += [
            offered.eq(axi.awvalid & ~axi.awready),
            answers.eq(answers + begin - answered),
        ]
        with m.If(begin):
            m.d.sync += left.eq(burst.payload.length + 1)
        with m.Elif(beat.i.valid & beat.i.ready):
            m.d.sync += left.eq(left - 1)
        m.d.sync += self.error.eq(answered & axi.bresp[1])
        return m
