"""Workers on this machine: started, and started again when they die."""

import subprocess
import sys
import threading
from collections.abc import Sequence

__all__ = ["Pool"]

RESTARTS = 3
"""Number of restarts of each worker."""

POLL_S = 0.5


class Pool:
    """Processes of `worker.main` that join a server.

    Parameters
    ----------
    arguments : sequence of str
        Arguments of the worker, the address left out.
    count : int
        How many.
    """

    def __init__(self, arguments: Sequence[str], count: int) -> None:
        self._arguments = list(arguments)
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stopped = threading.Event()

    @property
    def processes(self) -> list[int]:
        """Numbers of the processes."""
        return [process.pid for process in self._processes]

    def start(self, address: str) -> None:
        """Start the workers of a server."""
        self._processes = [self._spawn(address) for _ in range(self._count)]
        threading.Thread(target=self._watch, args=(address,), daemon=True).start()

    def stop(self) -> None:
        """Wait for the workers, which the server has sent home; end those that do not go."""
        self._stopped.set()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _spawn(self, address: str) -> "subprocess.Popen[bytes]":
        module = "trencadis_train.sparse.parallel.worker"
        return subprocess.Popen([sys.executable, "-m", module, *self._arguments, "--join", address])

    def _watch(self, address: str) -> None:
        restarts = [0] * self._count
        while not self._stopped.wait(POLL_S):
            for number, process in enumerate(self._processes):
                # Status 2 is a mistake that a new one would make too.
                again = process.poll() not in (None, 0, 2) and restarts[number] < RESTARTS
                if again and not self._stopped.is_set():
                    restarts[number] += 1
                    self._processes[number] = self._spawn(address)
