"""Attacks on their way to a server, and whether what came back is an answer."""

import http.client
import io
import json
import socket
from dataclasses import dataclass
from typing import Any

import grpc

from trencadis_bench.serving.grpc_attacks import SERVICE
from trencadis_bench.serving.hostile import Attack
from trencadis_bench.serving.servers import Served

__all__ = ["CLOSED", "Reply", "Sender", "complaint"]

TIMEOUT_S = 120.0

CLOSED = "closed"

REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")
"""Statuses of gRPC for what is wrong with a request."""

MAX_CHARACTERS = 600
"""Characters of an error."""


@dataclass(frozen=True)
class Reply:
    """Reply to a request: a status, a text, and whether a model computed it."""

    status: str
    text: str
    inferred: bool


class Sender:
    """Connections to a server."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._channel = grpc.insecure_channel(server.grpc)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()

    def send(self, attack: Attack) -> Reply:
        """Send a request and wait for its reply."""
        if attack.protocol == "grpc":
            return self._grpc(attack)
        if attack.protocol == "raw":
            return self._raw(attack)
        host, _, port = self._server.http.partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
        try:
            connection.putrequest(attack.method, attack.path)
            for name, value in attack.headers:
                connection.putheader(name, value.encode("latin-1"))
            connection.putheader("Content-Length", str(len(attack.body)))
            connection.endheaders(attack.body)
            reply = connection.getresponse()
            text = reply.read()
        except (http.client.HTTPException, OSError) as error:
            return Reply(CLOSED, f"{type(error).__name__}: {error}", False)
        finally:
            connection.close()
        return _http_reply(reply.status, text)

    def _raw(self, attack: Attack) -> Reply:
        host, _, port = self._server.http.partition(":")
        received = b""
        with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
            try:
                connection.sendall(attack.body)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    received += part
            except TimeoutError:
                return Reply("hangs", "", False)
            except OSError:  # closed by the server before all was sent
                pass
        reply = http.client.HTTPResponse(_Received(received))  # type: ignore[arg-type]
        try:
            reply.begin()
            return _http_reply(reply.status, reply.read())
        except (http.client.HTTPException, OSError):
            return Reply(CLOSED, "", False)

    def _grpc(self, attack: Attack) -> Reply:
        call = self._channel.unary_unary(attack.path)
        try:
            text = call(attack.body, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            failure: Any = error
            return Reply(failure.code().name, failure.details() or "", False)
        return Reply("OK", "", attack.path == SERVICE + "ModelInfer" and bool(text))


class _Received:
    """Bytes that came over a connection, for the reader of replies."""

    def __init__(self, received: bytes) -> None:
        self._received = received

    def makefile(self, mode: str) -> io.BytesIO:
        """The bytes as a file."""
        return io.BytesIO(self._received)


def _http_reply(status: int, text: bytes) -> Reply:
    return Reply(str(status), text.decode(errors="replace"), b'"model_name"' in text)


def complaint(attack: Attack, reply: Reply) -> str | None:
    """Fault of a reply; None if there is none.

    A request is refused by its protocol's error, in one line, or answered if it is harmless; bytes
    that are no HTTP may also be answered by closing the connection.
    """
    if attack.protocol == "grpc":
        accepted, refused = reply.status == "OK", reply.status in REFUSALS
        text = reply.text
    else:
        accepted, refused = reply.status == "200", reply.status[0] == "4"
        text = _error(reply.text) if refused else ""
        if attack.protocol == "raw" and reply.status == CLOSED:
            return None
    if not accepted and not refused:
        return f"status {reply.status}: {reply.text[:MAX_CHARACTERS]}"
    if accepted and attack.hopeless:
        return "was accepted"
    if refused and (len(text.strip().splitlines()) > 1 or len(text) > MAX_CHARACTERS):
        return f"an error of several lines, or a long one: {text[:MAX_CHARACTERS]!r}"
    return None


def _error(text: str) -> str:
    """The error of a body; of one that is no JSON, all of it."""
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text
