"""A server in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from trencadis_format.errors import FailureError

__all__ = ["Served", "served"]

START_S = 300.0
"""Seconds in which a server must answer."""

END_S = 120.0
"""Seconds in which a server must end; it may wait `Limits.timeout_s` for clients."""

COMMAND = "from trencadis_serve.cli import main; main()"


@dataclass(frozen=True)
class Served:
    """A server that answers.

    Attributes
    ----------
    process : int
        Its number.
    http, grpc : str
        Addresses of its protocols.
    lines : list of str
        What it wrote to standard error until now.
    """

    process: int
    http: str
    grpc: str
    lines: list[str]


@contextmanager
def served(arguments: Sequence[str | Path]) -> Iterator[Served]:
    """`sparse-serve` on free ports of this machine; ended with SIGTERM.

    Parameters
    ----------
    arguments : sequence
        Arguments of the command: models and options.

    Raises
    ------
    FailureError
        If it does not start, or does not end well.
    """
    command = [sys.executable, "-c", COMMAND, *map(str, arguments), "--port=0", "--grpc-port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            lines = _Lines(server)
            line = lines.first()
            http = re.search(r"http://(\S+):(\d+)/v2", line)
            grpc = re.search(r"gRPC on port (\d+)", line)
            if http is None or grpc is None:
                raise FailureError(f"sparse-serve does not start: {line.strip() or 'no output'}")
            addresses = f"{http[1]}:{http[2]}", f"{http[1]}:{grpc[1]}"
            yield Served(server.pid, *addresses, lines.seen)
        finally:
            server.terminate()
            status = server.wait(END_S)
        if status:
            raise FailureError(f"sparse-serve ended with status {status}")


class _Lines:
    """Output of a server, read as it comes: a full pipe would stop it."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self.seen: list[str] = []
        self._any = Event()
        stream = server.stderr
        assert stream is not None

        def read() -> None:
            for line in stream:
                self.seen.append(line)
                self._any.set()
            self._any.set()

        Thread(target=read, daemon=True).start()

    def first(self) -> str:
        """The first line; nothing if none comes in time."""
        self._any.wait(START_S)
        return self.seen[0] if self.seen else ""
