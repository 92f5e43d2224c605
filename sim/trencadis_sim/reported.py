"""Errors of the whole project as one line and an exit status, for programs that use all of it."""

from contextlib import AbstractContextManager

from trencadis_boards import BoardError
from trencadis_compiler.errors import CompileError
from trencadis_host.device import DeviceError, MissingToolError, UnknownDeviceError
from trencadis_host.faults import DeviceNameError
from trencadis_hw import reported as any_program
from trencadis_hw.container import ContainerError, InputError
from trencadis_sim.verilator import SimulatorError

__all__ = ["reported"]

MISTAKES = (
    BoardError,
    CompileError,
    ContainerError,
    DeviceNameError,
    InputError,
    MissingToolError,
    UnknownDeviceError,
)


def reported(program: str) -> AbstractContextManager[None]:
    """End the program with one line: status 2 for bad input, 1 for a device that failed."""
    return any_program.reported(program, bad_input=MISTAKES, failed=(DeviceError, SimulatorError))
