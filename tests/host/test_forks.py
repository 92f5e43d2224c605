"""Sessions that are used before and after `fork`, each time in a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_format.compiled import load_overlay
from trencadis_format.overlay import Overlay
from trencadis_host import Session
from trencadis_host import errors as faults
from trencadis_host.devices.protocol import Statistics

SCRIPT = """
import os, signal, sys, threading
import numpy as np
from trencadis_host import Session

image, device, inputs, build = sys.argv[1:]
x = np.load(inputs)
session = Session(image, device, build_dir=build, threads=2)
run = lambda x: session.run(None, {"image": x})[0]
submit = lambda x: session.submit(None, {"image": x}).result()[0]
expected, few = run(x), submit(x[:4])
assert np.array_equal(expected[:4], few)
session._turn.acquire()   # as another thread might at that moment
session._state.acquire()
lock = getattr(session._device, "_lock", threading.Lock())
lock.acquire()
if (child := os.fork()) == 0:
    signal.alarm(200)
    assert np.array_equal(run(x), expected)
    assert np.array_equal(submit(x[:4]), few)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(run(x[:9]))) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert all(np.array_equal(answer, expected[:9]) for answer in answers) and len(answers) == 4
    if (grandchild := os.fork()) == 0:
        signal.alarm(200)
        assert np.array_equal(run(x), expected)
        sys.exit(0)
    assert os.waitpid(grandchild, 0)[1] == 0
    session.close()
    sys.exit(0)
session._turn.release()
session._state.release()
lock.release()
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(run(x), expected)
session.close()
"""


@pytest.mark.parametrize("device", ["cpu", "emulator", pytest.param("sim", marks=pytest.mark.rtl)])
def test_a_session_works_in_the_child_too(
    compiled: Any, device: str, tmp_path: Path, build_dir: Path
) -> None:
    _, image = compiled()
    samples = 40 if device == "sim" else 300
    x = np.random.default_rng(0).normal(0, 3, (samples, 2, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(image), device, str(tmp_path / "x.npy"), str(build_dir)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


class Card:
    """A device that only one process can have."""

    name = "card"

    def __init__(self, overlay: Overlay) -> None:
        self.overlay, self.closed = overlay, False

    def run(self, samples: Any) -> tuple[Any, Statistics]:
        size = self.overlay.output_bytes
        return np.zeros((len(samples), size), np.uint8), Statistics(samples=len(samples))

    def close(self) -> None:
        self.closed = True


def test_a_card_belongs_to_the_process_that_opened_it(
    compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, image = compiled()
    card = Card(load_overlay(image))
    monkeypatch.setattr("trencadis_host.session.open_device", lambda *arguments: card)
    session = Session(image)
    feed = {"image": np.zeros((1, 2, 8, 8), np.float32)}
    session.run(None, feed)
    session.after_fork()
    for use in (session.run, session.submit):
        with pytest.raises(
            faults.DeviceAbortedError,
            match=r"^device card: was opened by .* open a session after fork, in each process$",
        ):
            use(None, feed)
    session.close()
    assert not card.closed
