"""The XRT kernel: several cores on one AXI4 port, controlled through AXI4-Lite."""

from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Instance,
    Module,
    ResetInserter,
    ResetSignal,
    Signal,
    Value,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import KernelConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import FEED
from trencadis_hw.axi.full import AxiReader, AxiReadSignature, AxiWriter, AxiWriteSignature
from trencadis_hw.axi.lite import ARGUMENTS, AxiLiteSignature, ControlRegisters
from trencadis_hw.control.distribute import Collector, Distributor
from trencadis_hw.control.loader import ImageLoader
from trencadis_hw.control.run_control import RunControl
from trencadis_hw.interface.core_ports import core_signature
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadSignature, load_bits
from trencadis_hw.interface.streams import connect_streams

__all__ = ["CONTROL_PREFIX", "CORE_NAME", "MEMORY_PREFIX", "Kernel"]

CORE_NAME = "core"
"""Name of the module that a core is: equal cores are generated once, apart from the kernel."""


CONTROL_PREFIX = "s_axi_control_"
MEMORY_PREFIX = "m_axi_gmem_"


def _ports(config: KernelConfig) -> dict[str, wiring.Member]:
    """Ports under the names that Vitis expects of an RTL kernel."""
    ports = {"ap_clk": In(1), "ap_rst_n": In(1), "interrupt": Out(1)}
    for prefix, signature in (
        (CONTROL_PREFIX, AxiLiteSignature()),
        (MEMORY_PREFIX, AxiReadSignature(config.bus_bits)),
        (MEMORY_PREFIX, AxiWriteSignature(config.bus_bits)),
    ):
        ports |= {prefix + name: member for name, member in signature.members.items()}
    return ports


class Kernel(wiring.Component):
    """An XRT RTL kernel with `ap_ctrl_hs` control.

    A start loads an image, or computes `samples` inputs, or both, as `Command` says; it ends with
    `STATISTICS` written to memory. Samples go to cores in turn, as many at once as a core has in
    lockstep. Packed inputs and outputs lie one after the other, each padded to whole beats. Cores
    are instances of a module `CORE_NAME`, which is not part of the kernel.

    Parameters
    ----------
    config : KernelConfig
        The kernel.
    """

    ap_clk: Signal
    ap_rst_n: Signal
    interrupt: Signal

    def __init__(self, config: KernelConfig) -> None:
        self._config = config
        super().__init__(_ports(config))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        m.domains.sync = ClockDomain("sync", local=True)
        m.d.comb += [ClockSignal().eq(self.ap_clk), ResetSignal().eq(~self.ap_rst_n)]

        m.submodules.control = control = ControlRegisters(configuration=config.digest)
        m.submodules.run = run = RunControl(bus_bits=config.bus_bits)
        m.submodules.reader = reader = AxiReader(bits=config.bus_bits)
        m.submodules.writer = writer = AxiWriter(bits=config.bus_bits)
        loader = ImageLoader(
            configuration=config.digest, bus_bits=config.bus_bits, load_bits=load_bits(config.core)
        )
        # A load that is given up must not go on with the next one.
        m.submodules.loader = ResetInserter(run.read_stop)(loader)
        self._connect_ports(m, CONTROL_PREFIX, control.bus)
        self._connect_ports(m, MEMORY_PREFIX, reader.axi)
        self._connect_ports(m, MEMORY_PREFIX, writer.axi)
        m.d.comb += [
            self.interrupt.eq(control.interrupt),
            run.start.eq(control.start),
            run.abort.eq(control.abort),
            control.done.eq(run.done),
            control.idle.eq(run.idle),
            control.status.eq(run.status),
            *(getattr(run, name).eq(getattr(control, name)) for name in ARGUMENTS),
            reader.stop.eq(run.read_stop),
            writer.stop.eq(run.write_stop),
            run.read_busy.eq(reader.busy),
            run.write_busy.eq(writer.busy),
            run.read_error.eq(reader.error),
            run.write_error.eq(writer.error),
            loader.start.eq(run.load_start),
            run.load_done.eq(loader.done),
            run.load_good.eq(loader.good),
        ]
        connect_streams(m, source=run.read, sink=reader.transfers)
        connect_streams(m, source=run.write, sink=writer.transfers)

        # The load bus, a register away from the loader, and the formats an image brings along.
        load = LoadSignature(load_bits(config.core)).create()
        m.d.sync += [
            getattr(load, name).eq(getattr(loader.load, name)) for name in load.signature.members
        ]
        feed = Signal(layout_of(FEED), reset_less=True)
        with m.If(load.enable & (load.target == Target.FEED)):
            m.d.sync += feed.eq(load.data)
        m.d.comb += run.out_beats.eq(feed.out_beats)

        ways = config.cores * config.core.batch_lanes
        m.submodules.distributor = distributor = Distributor(config.bus_bits, ways)
        m.submodules.collector = collector = Collector(config.bus_bits, ways)
        m.d.comb += [
            distributor.enable.eq(run.running),
            distributor.samples.eq(control.samples),
            distributor.beats.eq(feed.beats),
            collector.enable.eq(run.running),
            collector.samples.eq(control.samples),
            collector.beats.eq(feed.out_beats),
            run.samples_done.eq(collector.done),
        ]
        with m.If(run.loading):
            connect_streams(m, source=reader.beats, sink=loader.beats)
        with m.Else():
            connect_streams(m, source=reader.beats, sink=distributor.i)
        with m.If(run.reporting):
            connect_streams(m, source=run.report, sink=writer.beats)
        with m.Else():
            connect_streams(m, source=collector.o, sink=writer.beats)

        cores = []
        for number in range(config.cores):
            core = self._instantiate_core(m, f"core_{number}", reset=run.core_reset)
            m.d.comb += [
                *(
                    getattr(core.load, name).eq(getattr(load, name))
                    for name in load.signature.members
                ),
                core.feed.eq(feed),
                core.start.eq(run.core_start),
                core.input_ended.eq(distributor.ended),
                core.clear.eq(loader.clear),
            ]
            for sample in range(config.core.batch_lanes):
                way = number * config.core.batch_lanes + sample
                connect_streams(
                    m,
                    source=distributor.o[way],
                    sink=core.input[sample],
                )
                connect_streams(
                    m,
                    source=core.output[sample],
                    sink=collector.i[way],
                )
            cores.append(core)
        m.d.comb += [
            loader.cleared.eq(Cat(core.cleared for core in cores).all()),
            run.overflow.eq(Cat(core.overflow for core in cores).any()),
            run.busy.eq(cores[0].busy),
        ]
        return m

    def _instantiate_core(self, m: Module, name: str, *, reset: Signal) -> Any:
        """A core's ports; it is held in reset by `reset`, besides the kernel's own."""
        # What is created has the signature's members, which the stubs do not know.
        core: Any = core_signature(self._config).create(path=(name,))
        ports: dict[str, Value] = {}
        for path, member, value in core.signature.flatten(core):
            direction = "o" if member.flow == Out else "i"
            ports[f"{direction}_{'__'.join(map(str, path))}"] = Value.cast(value)
        m.submodules[name] = Instance(
            CORE_NAME, i_clk=ClockSignal(), i_rst=ResetSignal() | reset, **ports
        )
        return core

    def _connect_ports(self, m: Module, prefix: str, bus: wiring.PureInterface) -> None:
        for name, member in bus.signature.members.items():
            port = getattr(self, prefix + name)
            if member.flow is Out:
                m.d.comb += port.eq(getattr(bus, name))
            else:
                m.d.comb += getattr(bus, name).eq(port)
