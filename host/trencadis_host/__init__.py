"""Inference on overlay hardware, its simulation and its emulation."""

from trencadis_host.device import DeviceError, Statistics, UnknownDeviceError
from trencadis_host.session import NodeArg, Session
from trencadis_hw.container import ContainerError, InputError, Overlay

__all__ = [
    "ContainerError",
    "DeviceError",
    "InputError",
    "NodeArg",
    "Overlay",
    "Session",
    "Statistics",
    "UnknownDeviceError",
]
