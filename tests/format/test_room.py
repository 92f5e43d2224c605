"""Images that do not fit are refused before they are made, with both figures."""

import resource
import shutil
from pathlib import Path

import pytest

from trencadis_format.room import RoomError, available_memory, check_disk, check_memory

GIB = 1 << 30


def test_memory_that_is_there_is_enough() -> None:
    assert available_memory() > 0
    check_memory(3 * GIB, "it", "use less", available=3 * GIB)


def test_too_little_memory_is_said_with_both_figures() -> None:
    message = "packing takes about 3,072 MiB of memory, and 1,024 MiB are available; pack less"
    with pytest.raises(RoomError, match=message):
        check_memory(3 * GIB, "packing", "pack less", available=GIB)


def test_the_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = (pages * resource.getpagesize()) + (64 << 20)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert 32 << 20 < available_memory() < 128 << 20


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    check_disk(GIB, tmp_path / "a.tcd")
    with pytest.raises(RoomError, match=r"a\.tcd: takes about 2,048 MiB, and 1,024 MiB are free"):
        check_disk(2 * GIB, tmp_path / "a.tcd")
    check_disk(2 * GIB, Path("/dev/null"))
