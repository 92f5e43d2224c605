"""Inference on overlay hardware, its simulation and its emulation."""

from trencadis_format.errors import ContainerError, InputError
from trencadis_format.overlay import Overlay
from trencadis_host.devices.protocol import (
    DeviceError,
    MissingToolError,
    Statistics,
    UnknownDeviceError,
)
from trencadis_host.session import NodeArg, Session

__all__ = [
    "ContainerError",
    "DeviceError",
    "InputError",
    "MissingToolError",
    "NodeArg",
    "Overlay",
    "Session",
    "Statistics",
    "UnknownDeviceError",
]
