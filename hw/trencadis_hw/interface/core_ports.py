"""Ports of a core, whatever its engines are."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from trencadis_format.config import KernelConfig
from trencadis_format.layer_tables import FEED
from trencadis_hw.interface.layouts import layout_of
from trencadis_hw.interface.load import LoadSignature, load_bits

__all__ = ["core_signature"]


def core_signature(config: KernelConfig) -> wiring.Signature:
    """Ports of a core of a kernel."""
    beats = stream.Signature(config.bus_bits)
    members = {
        "feed": In(layout_of(FEED)),
        "start": In(1),
        "input_ended": In(1),
        "overflow": Out(1),
        "busy": Out(1),
        "clear": In(1),
        "cleared": Out(1),
        "input": In(beats).array(config.core.batch_lanes),
        "output": Out(beats).array(config.core.batch_lanes),
        "load": In(LoadSignature(load_bits(config.core))),
    }
    return wiring.Signature(members)
