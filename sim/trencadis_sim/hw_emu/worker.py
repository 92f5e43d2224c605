"""The process in which XRT emulates a card for a program.

Its parent has set XRT's variables, and talks to it in frames over an inherited socket.
"""

import os
import socket
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from trencadis_format.compiled import load_overlay
from trencadis_format.errors import FileError
from trencadis_host.devices.protocol import DeviceError, Statistics
from trencadis_host.devices.xrt.device import XrtDevice, open_binding
from trencadis_sim.hw_emu.environment import PID_FILE
from trencadis_sim.hw_emu.frames import receive_frame, send_frame

__all__ = ["main"]

SIGN_S = 1.0
"""Seconds between two signs of life."""


def main(number: int, run_folder: Path, xclbin: Path, cards: int, timeout_s: float) -> int:
    """Serve the parent until it closes; the exit status."""
    parent = socket.socket(fileno=number)
    sending = threading.Lock()

    def send(frame: dict[str, Any], data: bytes | memoryview = b"") -> None:
        with sending:
            send_frame(parent, frame, data)

    try:
        overlay = load_overlay(run_folder / "network.tcd")
        binding = open_binding()
        device = XrtDevice("hw_emu", binding, range(cards), xclbin, overlay, timeout_s)
    except (FileError, DeviceError) as error:
        send({"failed": type(error).__name__, "message": str(error)})
        return 1
    pids = sorted(int(file.read_text()) for file in run_folder.glob(f".run/*/hw_em/*/{PID_FILE}"))
    send({"ready": binding.name, "units": device.units, "simulators": pids})

    def live() -> None:
        while True:
            time.sleep(SIGN_S)
            send({"alive": True})

    threading.Thread(target=live, daemon=True).start()

    jobs: dict[int, Future[tuple[Any, Statistics]]] = {}

    def reply(job: int, future: Future[tuple[Any, Statistics]]) -> None:
        jobs.pop(job, None)
        if future.cancelled():
            send({"job": job, "failed": "DeviceAbortedError", "message": "cancelled"})
            return
        error = future.exception()
        if error is not None:
            send({"job": job, "failed": type(error).__name__, "message": str(error)})
        else:
            results, statistics = future.result()
            send({"job": job, "statistics": vars(statistics)}, memoryview(results).cast("B"))

    while True:
        try:
            frame, data = receive_frame(parent)
        except EOFError:
            # Nobody is left who wants results. XRT may be stuck, so there is no orderly exit.
            os._exit(1)
        if "cancel" in frame:
            if (unwanted := jobs.get(frame["cancel"])) is not None:
                unwanted.cancel()
            continue
        if "job" not in frame:
            device.close()
            return 0
        samples = np.frombuffer(data, np.uint8).reshape(-1, overlay.input_bytes)
        job = frame["job"]
        jobs[job] = device.submit(samples)
        jobs[job].add_done_callback(lambda future, job=job: reply(job, future))


if __name__ == "__main__":
    status = main(
        int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    )
    # XRT 2.13's destructors are not run: they wait for simulators that have exited already.
    sys.stdout.flush()
    os._exit(status)
