"""Serving a card to XRT's emulation driver over its sockets."""

import contextlib
import socket
import time
from pathlib import Path

from trencadis_sim.hw_emu.card import Card
from trencadis_sim.hw_emu.frames import receive
from trencadis_sim.hw_emu.messages import (
    CALL_HEADER_BYTES,
    Call,
    call_header,
    parse_call_header,
)

__all__ = ["connect", "serve"]

CONNECT_S = 60.0
"""Seconds for which the driver's socket is waited for; it listens soon after it has started us."""

MAX_MESSAGE_BYTES = 1 << 30

HOST_MEMORY_PREFIX = "D2X_unix_sock_"
"""Name of the driver's second socket, through which a card would reach host memory."""


def connect(path: Path, timeout_s: float = CONNECT_S) -> socket.socket:
    """A connection to a socket that may not be there yet.

    Raises
    ------
    TimeoutError
        If no one listens in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise TimeoutError(f"no driver listens on {path}: {error.strerror}") from None
            time.sleep(0.002)
        else:
            return connection


def serve(card: Card, driver: socket.socket, host_memory: socket.socket | None = None) -> bool:
    """Answer calls until the driver closes the card, or goes away.

    Parameters
    ----------
    card : Card
        The card.
    driver : socket
        Where calls come from.
    host_memory : socket, optional
        The driver's second socket. Nothing is asked on it; the driver's thread that listens there
        is told to end, or the driver would wait for it for seconds.

    Returns
    -------
    bool
        Whether the card was closed.
    """
    while not card.closed:
        try:
            number, size = parse_call_header(bytes(receive(driver, CALL_HEADER_BYTES)))
            if size > MAX_MESSAGE_BYTES:
                raise ValueError(f"the driver announced a message of {size} bytes")
            message = receive(driver, size)
        except EOFError:
            return False
        answer = card.answer(number, memoryview(message))
        if card.closed and host_memory is not None:
            with contextlib.suppress(OSError):
                host_memory.sendall(call_header(Call.CLOSE, 0))
        driver.sendall(answer)
    return True
