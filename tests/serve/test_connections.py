"""Clients that keep a connection waiting."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from trencadis_serve.connections import Connection

REPLY = bytes(64 << 20)
"""More than sockets buffer."""


class Application:
    """Answers with more than sockets buffer, and tells when it could not be sent."""

    def __init__(self) -> None:
        self.done = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": REPLY, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        self.done.set()


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def address(application: Application) -> Iterator[tuple[str, int]]:
    """A server that waits a second, twice at most."""
    with _served(application) as port:
        yield "127.0.0.1", port


@contextlib.contextmanager
def _served(application: Application) -> Iterator[int]:
    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(300)


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_client_that_does_not_ask_is_disconnected(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, 300) as client:
        client.sendall(sent)
        assert client.recv(1) == b""


def test_a_client_that_does_not_read_is_disconnected(
    address: tuple[str, int], application: Application
) -> None:
    with socket.create_connection(address, 300) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert application.done.wait(300)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                received += len(part)
    assert received < len(REPLY)


def test_a_client_that_reads_gets_everything(address: tuple[str, int]) -> None:
    with socket.create_connection(address, 300) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while part := client.recv(1 << 20):
            received += len(part)
    assert received > len(REPLY)
