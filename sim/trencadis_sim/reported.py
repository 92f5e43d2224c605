"""Errors of the project as one line and an exit status, for programs that use all of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from trencadis_boards import BoardError
from trencadis_compiler.errors import CompileError
from trencadis_host.device import DeviceError, MissingToolError, UnknownDeviceError
from trencadis_hw.container import ContainerError, InputError

__all__ = ["reported"]


@contextmanager
def reported(program: str) -> Iterator[None]:
    """End the program with one line: status 2 for bad input, 1 for a device that failed."""
    try:
        yield
    except (
        BoardError,
        CompileError,
        ContainerError,
        InputError,
        MissingToolError,
        UnknownDeviceError,
    ) as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except DeviceError as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
