"""Messages between a program and the process in which its emulated card lives.

A frame is the length of a JSON object, the object, and as many bytes as it says under `bytes`.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

__all__ = ["receive", "receive_frame", "send_frame"]

LENGTH = struct.Struct("<I")
Frame = dict[str, Any]


def send_frame(
    connection: socket.socket, frame: Mapping[str, Any], data: bytes | memoryview = b""
) -> None:
    """Send a frame."""
    head = json.dumps({**frame, "bytes": len(data)}).encode()
    connection.sendall(LENGTH.pack(len(head)) + head)
    if data:
        connection.sendall(data)


def receive_frame(connection: socket.socket) -> tuple[Frame, bytearray]:
    """Receive a frame.

    Raises
    ------
    EOFError
        If the other side is gone.
    """
    (length,) = LENGTH.unpack(receive(connection, LENGTH.size))
    frame: Frame = json.loads(receive(connection, length))
    return frame, receive(connection, frame["bytes"])


def receive(connection: socket.socket, size: int) -> bytearray:
    """Receive that many bytes.

    Raises
    ------
    EOFError
        If the other side is gone.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            count = connection.recv_into(view)
        except ConnectionError:
            count = 0
        if not count:
            raise EOFError
        view = view[count:]
    return data
