"""Benches of a whole kernel at its ports, run inside a simulator by cocotb.

Registers are driven, and memory is modelled, by cocotbext-axi: what others take the two ports to
be. Its memory checks that bursts stay within pages and that their last beats are marked.
`trencadis_sim.benches.run` starts these; the plusarg `case` names the file it wrote.
"""

import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRamRead, AxiRamWrite
from cocotbext.axi.memory import Memory

from trencadis_format.image import ABI_VERSION, HEADER, Block, Target, pack_blocks
from trencadis_format.registers import CONTROL, STATISTICS, Command, Register, Status
from trencadis_hw.kernel import CONTROL_PREFIX, MEMORY_PREFIX

PERIOD_NS = 4
PAGE = 4096
MEMORY_BYTES = 1 << 24
TIMEOUT_US = 2000
"""Limit of simulated time; the longest bench takes less than a tenth."""

RUN_DONE = CONTROL.pack(start=0, done=1, idle=1, ready=1)
IDLE = CONTROL.pack(start=0, done=0, idle=1, ready=0)
STARTED = CONTROL.pack(start=1, done=0, idle=0, ready=0)


class FailingRead(AxiRamRead):
    """Memory whose reads of the addresses in `faults` are answered with errors."""

    faults = range(0)

    async def _read(self, address: int, length: int) -> Any:
        if address in self.faults:
            raise OSError("a fault that was asked for")
        return await super()._read(address, length)


class Host:
    """A host's side of the kernel: its registers, and the memory that both share.

    Parameters
    ----------
    dut
        The top module.
    stall : float
        Probability that a channel of a port pauses in a cycle.
    """

    def __init__(self, dut: Any, stall: float = 0.0) -> None:
        self.dut = dut
        with np.load(str(cocotb.plusargs["case"])) as case:
            self.configuration = int(case["configuration"])
            self.beat = int(case["bus_bytes"])
            self.image: bytes = case["image"].tobytes()
            self.inputs = case["inputs"]
            self.expected = case["expected"]
        self.image_address = PAGE
        self.statistics_address = _next_page(self.image_address + len(self.image))
        self.input_address = _next_page(self.statistics_address + 1)
        # Not the beginning of a page, so that bursts are cut short, and beyond 16 bits.
        self.output_address = (1 << 20) + PAGE - 2 * self.beat

        Clock(dut.ap_clk, PERIOD_NS, unit="ns").start()
        dut.ap_rst_n.value = 0
        ports = {"clock": dut.ap_clk, "reset": dut.ap_rst_n, "reset_active_level": False}
        control = AxiLiteBus.from_prefix(dut, CONTROL_PREFIX.removesuffix("_"))
        self.control: Any = AxiLiteMaster(control, **ports)
        bus = AxiBus.from_prefix(dut, MEMORY_PREFIX.removesuffix("_"))
        self.memory: Any = Memory(MEMORY_BYTES)
        self.reads = FailingRead(bus.read, mem=self.memory.mem, **ports)
        self.writes = AxiRamWrite(bus.write, mem=self.memory.mem, **ports)
        if stall:
            self._stall(stall)

    def _stall(self, probability: float) -> None:
        rng = random.Random(cocotb.RANDOM_SEED)

        def pauses(seed: int) -> Iterator[bool]:
            own = random.Random(seed)
            while True:
                yield own.random() < probability

        channels = (
            *(self.control.write_if.aw_channel, self.control.write_if.w_channel),
            *(self.control.write_if.b_channel, self.control.read_if.ar_channel),
            *(self.control.read_if.r_channel, self.reads.ar_channel, self.reads.r_channel),
            *(self.writes.aw_channel, self.writes.w_channel, self.writes.b_channel),
        )
        for channel in channels:
            channel.set_pause_generator(pauses(rng.getrandbits(32)))

    async def reset(self) -> None:
        """Hold the reset line for some cycles."""
        self.dut.ap_rst_n.value = 0
        await ClockCycles(self.dut.ap_clk, 8)
        self.dut.ap_rst_n.value = 1
        await ClockCycles(self.dut.ap_clk, 2)

    async def write(self, register: int, value: int) -> None:
        """Write a 32-bit register."""
        await self.control.write_dword(register, value)

    async def read(self, register: int) -> int:
        """Read a 32-bit register."""
        return await self.control.read_dword(register)

    async def set_up(self, command: Command, samples: int, image: bytes | None = None) -> None:
        """Put data into memory and arguments into registers; memory of results is cleared."""
        image = image or self.image
        inputs = self.inputs[:samples].tobytes()
        self.memory.write(self.image_address, image)
        self.memory.write(self.input_address, inputs)
        self.memory.write(self.statistics_address, bytes(STATISTICS.bits // 8))
        self.memory.write(self.output_address, bytes(self.expected.nbytes + self.beat))
        for register, address in (
            (Register.IMAGE, self.image_address),
            (Register.INPUT, self.input_address),
            (Register.OUTPUT, self.output_address),
            (Register.STATISTICS, self.statistics_address),
        ):
            await self.write(register, address & 0xFFFFFFFF)
            await self.write(register + 4, address >> 32)
        await self.write(Register.IMAGE_BEATS, -(-len(image) // self.beat))
        await self.write(Register.INPUT_BEATS, len(inputs) // self.beat)
        await self.write(Register.SAMPLES, samples)
        await self.write(Register.COMMAND, command)

    async def run(self, command: Command, samples: int, image: bytes | None = None) -> int:
        """Run to the interrupt, and acknowledge it; the cycles from start to interrupt."""
        await self.set_up(command, samples, image)
        await self.write(Register.GLOBAL_INTERRUPT_ENABLE, 1)
        await self.write(Register.INTERRUPT_ENABLE, 1)
        before = get_sim_time("ns")
        await self.write(Register.CONTROL, 1)
        await RisingEdge(self.dut.interrupt)
        cycles = int(get_sim_time("ns") - before) // PERIOD_NS
        await self.write(Register.INTERRUPT_STATUS, 1)
        assert await self.read(Register.CONTROL) == RUN_DONE
        return cycles

    def statistics(self) -> dict[str, int]:
        """Data that the kernel wrote."""
        pattern = self.memory.read(self.statistics_address, STATISTICS.bits // 8)
        return STATISTICS.unpack(int.from_bytes(pattern, "little"))

    def outputs(self, samples: int) -> bytes:
        """Packed outputs, and what lies after them for a beat."""
        size = samples * self.expected.shape[1]
        return bytes(self.memory.read(self.output_address, size + self.beat))

    def check_outputs(self, samples: int) -> None:
        """They must be what is expected, bit for bit, and nothing must be written after them."""
        expected = self.expected[:samples].tobytes() + bytes(self.beat)
        assert self.outputs(samples) == expected, "packed outputs differ"


def _next_page(address: int) -> int:
    return -(-address // PAGE) * PAGE


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
@cocotb.parametrize(stall=[0.0, 0.5])
async def samples_come_out_right(dut: Any, stall: float) -> None:
    """Load an image and compute samples, then fewer samples with the image that is there."""
    host = Host(dut, stall)
    await host.reset()
    both = Command.LOAD | Command.RUN
    for command, samples in ((both, len(host.inputs)), (Command.RUN, 2)):
        cycles = await host.run(command, samples)
        host.check_outputs(samples)
        record = host.statistics()
        assert record["version"] == ABI_VERSION
        assert record["status"] == await host.read(Register.STATUS) == 0
        assert record["samples"] == samples
        assert record["reserved"] == 0
        loading = bool(command & Command.LOAD)
        beats = -(-len(host.image) // host.beat)
        assert (record["load_cycles"] >= beats) if loading else (record["load_cycles"] == 0)
        assert record["load_cycles"] < record["first_done"] < record["last_done"]
        assert record["last_done"] <= record["cycles"] <= cycles
        assert 0 < record["busy"] < record["cycles"] - record["load_cycles"]


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
async def registers_behave(dut: Any) -> None:
    """Constants, arguments, `ap_ctrl_hs` and interrupts; no image is needed."""
    host = Host(dut)
    await host.reset()
    register = Register
    assert await host.read(register.VERSION) == ABI_VERSION
    low, high = await host.read(register.CONFIGURATION), await host.read(register.CONFIGURATION + 4)
    assert high << 32 | low == host.configuration
    assert await host.read(register.STATUS) == 0
    assert await host.read(register.CONTROL) == IDLE
    assert not int(dut.interrupt.value)

    # Arguments keep what was written, a part of a word if need be; constants ignore writes.
    # Addresses are those of words: the kernel does not know others.
    await host.control.write_qword(register.OUTPUT, 0x0123456789ABCDEF)
    await host.control.write_byte(register.OUTPUT + 4, 0x5A)
    assert await host.control.read_qword(register.OUTPUT) == 0x0123455A89ABCDEF
    await host.write(register.VERSION, 0xFFFFFFFF)
    assert await host.read(register.VERSION) == ABI_VERSION

    # A start without a command only reports; the report is held up, so that it can be watched.
    await host.set_up(Command(0), 0)
    host.writes.b_channel.pause = True
    await host.write(register.CONTROL, 1)
    await ClockCycles(dut.ap_clk, 200)
    assert await host.read(register.CONTROL) == STARTED
    host.writes.b_channel.pause = False
    await ClockCycles(dut.ap_clk, 50)
    assert await host.read(register.CONTROL) == RUN_DONE
    assert await host.read(register.CONTROL) == IDLE
    assert host.statistics()["version"] == ABI_VERSION
    # It was not enabled.
    assert await host.read(register.INTERRUPT_STATUS) == 0

    async def run() -> None:
        await host.write(register.CONTROL, 1)
        await ClockCycles(dut.ap_clk, 200)

    # An interrupt is pending until its bit is toggled; reading `ap_done` does not end it.
    await host.write(register.INTERRUPT_ENABLE, 1)
    await run()
    assert await host.read(register.INTERRUPT_STATUS) == 1
    assert not int(dut.interrupt.value), "interrupts are not enabled altogether"
    await host.write(register.GLOBAL_INTERRUPT_ENABLE, 1)
    assert int(dut.interrupt.value)
    assert await host.read(register.CONTROL) == RUN_DONE
    assert int(dut.interrupt.value)
    await host.write(register.INTERRUPT_STATUS, 1)
    assert await host.read(register.INTERRUPT_STATUS) == 0
    assert not int(dut.interrupt.value)
    await host.write(register.INTERRUPT_STATUS, 1)
    assert int(dut.interrupt.value), "a write of 1 toggles"
    await host.write(register.INTERRUPT_STATUS, 1)

    # Samples before any image.
    await host.run(Command.RUN, 1)
    assert await host.read(register.STATUS) == Status.NO_IMAGE
    assert host.statistics()["status"] == Status.NO_IMAGE


@cocotb.test(timeout_time=TIMEOUT_US, timeout_unit="us")
@cocotb.parametrize(fault=["read_error", "bad_image"])
async def runs_after_a_fault(dut: Any, fault: str) -> None:
    """A fault is flagged and nothing computed; then everything works."""
    host = Host(dut)
    await host.reset()
    image = host.image
    both = Command.LOAD | Command.RUN
    if fault == "bad_image":
        other = HEADER.pack(version=ABI_VERSION, configuration=host.configuration ^ (1 << 40))
        header = pack_blocks([Block(Target.HEADER, [other], HEADER.bits)])
        image = header + image[len(header) :]
        flag = Status.BAD_IMAGE
    else:
        first = host.image_address + len(image) // 2 // host.beat * host.beat
        host.reads.faults = range(first, first + host.beat)
        flag = Status.READ_ERROR
    samples = len(host.inputs)
    await host.run(both, samples, image)
    record = host.statistics()
    assert record["status"] & flag
    assert await host.read(Register.STATUS) == record["status"]
    assert record["samples"] == 0
    assert not any(host.outputs(samples)), "an output was written"

    host.reads.faults = range(0)
    await host.run(both, samples)
    assert host.statistics()["status"] == await host.read(Register.STATUS) == 0
    host.check_outputs(samples)
