"""Verilog of a kernel, as text; nothing is written."""

from amaranth.back import verilog

from trencadis_hw.config import KernelConfig
from trencadis_hw.kernel import Kernel

__all__ = ["KERNEL_NAME", "kernel_verilog"]

KERNEL_NAME = "trencadis"


def kernel_verilog(config: KernelConfig) -> str:
    """The Verilog of a kernel; the same text for the same configuration, wherever it is made."""
    return verilog.convert(Kernel(config), name=KERNEL_NAME, emit_src=False)
