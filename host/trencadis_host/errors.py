"""Errors of devices, each under a name of its own.

All are `DeviceError`s: a program that only wants to know that a device failed catches that one.
"""

from trencadis_format.errors import FailureError, UserError

__all__ = [
    "DeviceAbortedError",
    "DeviceBusyError",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "DeviceNameError",
    "DeviceNotFoundError",
    "DeviceTimeoutError",
    "MissingToolError",
    "WrongBitstreamError",
    "WrongImageError",
    "XrtMissingError",
]


class DeviceError(FailureError):
    """A device failed. One line: device, what happened, what to do."""


class DeviceNameError(DeviceError, UserError):
    """The text after the colon of a device's name makes no sense."""


class MissingToolError(DeviceError, UserError):
    """A device needs software that is not installed. One line: device, what, how to get it."""


class XrtMissingError(MissingToolError):
    """XRT, or its Python binding, is not installed or cannot be loaded."""


class DeviceNotFoundError(DeviceError):
    """There is no card of that number."""


class DeviceBusyError(DeviceError):
    """Another process uses the card."""


class DeviceMemoryError(DeviceError):
    """The card's memory does not hold the buffers of a run."""


class DeviceLostError(DeviceError):
    """The card, or its simulator, went away."""


class DeviceTimeoutError(DeviceError):
    """A run did not end in time."""


class DeviceAbortedError(DeviceError):
    """A run was given up because the device was closed or interrupted."""


class WrongBitstreamError(DeviceError):
    """The bitstream is for another platform, or holds no kernel of ours of this version."""


class WrongImageError(DeviceError):
    """The overlay image was compiled for another configuration of the kernel."""
