"""Inference on overlay hardware, its simulation and its emulation."""

from trencadis_host.device import DeviceError, MissingToolError, Statistics, UnknownDeviceError
from trencadis_host.session import NodeArg, Session
from trencadis_hw.container import ContainerError, InputError, Overlay

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
