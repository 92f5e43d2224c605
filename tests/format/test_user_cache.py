import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trencadis_format.user_cache import CONTENTS, CacheError, open_cache, user_folder


class Builder:
    """Writes a file and counts."""

    def __init__(self, text: str = "made") -> None:
        self.calls = 0
        self.text = text

    def __call__(self, work: Path) -> None:
        self.calls += 1
        assert list(work.iterdir()) == []
        (work / "a.txt").write_text(self.text)
        (work / "scratch").mkdir()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CACHE_HOME": "/big/cache", "HOME": "/home/u"}, "/big/cache/trencadis"),
        ({"HOME": "/home/u"}, "/home/u/.cache/trencadis"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/u"}, "/home/u/.cache/trencadis"),
        ({"XDG_CACHE_HOME": "build", "HOME": "/home/u"}, "/home/u/.cache/trencadis"),
    ],
)
def test_the_users_folder(environment: dict[str, str], expected: str) -> None:
    assert user_folder(environment) == Path(expected)


def test_a_home_that_the_environment_does_not_tell() -> None:
    assert user_folder({}).is_absolute()
    assert user_folder({"HOME": "here"}).is_absolute()


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_format.user_cache.os.getuid", lambda: 987_654)
    with pytest.raises(CacheError, match=r"^user 987654 has no home .* set XDG_CACHE_HOME to a"):
        user_folder({})


def test_what_is_there_is_not_built_again(folder: Path, builder: Builder) -> None:
    cache = open_cache(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    entry = cache.kept("x-1", ["a.txt"], builder)
    assert entry == folder / "x-1"
    assert (entry / "a.txt").read_text() == "made"
    assert cache.kept("x-1", ["a.txt"], builder) == entry
    assert open_cache(folder).kept("x-1", ["a.txt"], builder) == entry
    assert builder.calls == 1
    assert sorted(path.name for path in folder.iterdir()) == ["x-1"]
    assert sorted(path.name for path in entry.iterdir()) == ["a.txt", CONTENTS]


def _truncate(entry: Path) -> None:
    os.truncate(entry / "a.txt", 2)


def _empty(entry: Path) -> None:
    os.truncate(entry / "a.txt", 0)


def _flip(entry: Path) -> None:
    (entry / "a.txt").write_text("mAde")


def _lose(entry: Path) -> None:
    (entry / "a.txt").unlink()


def _no_list(entry: Path) -> None:
    (entry / CONTENTS).unlink()


def _empty_list(entry: Path) -> None:
    os.truncate(entry / CONTENTS, 0)


def _other_list(entry: Path) -> None:
    (entry / CONTENTS).write_text(json.dumps(["a.txt"]))


def _deep_list(entry: Path) -> None:
    (entry / CONTENTS).write_text("[" * 100_000)


def _more(entry: Path) -> None:
    (entry / "b.txt").write_text("more")


@pytest.mark.parametrize(
    "damage",
    [_truncate, _empty, _flip, _lose, _no_list, _empty_list, _other_list, _deep_list, _more],
)
def test_what_is_damaged_is_built_again(folder: Path, builder: Builder, damage) -> None:
    cache = open_cache(folder)
    entry = cache.kept("x", ["a.txt"], builder)
    damage(entry)
    assert cache.kept("x", ["a.txt"], builder) == entry
    assert (entry / "a.txt").read_text() == "made"
    assert sorted(path.name for path in entry.iterdir()) == ["a.txt", CONTENTS]
    assert builder.calls == 2


def test_links_are_refused(folder: Path, builder: Builder, tmp_path: Path) -> None:
    cache = open_cache(folder)
    entry = cache.kept("x", ["a.txt"], builder)
    other = tmp_path / "a.txt"
    (entry / "a.txt").rename(other)
    (entry / "a.txt").symlink_to(other)
    with pytest.raises(CacheError, match=r"x/a\.txt: is a link, of another kind or of another"):
        cache.kept("x", ["a.txt"], builder)
    entry.rename(tmp_path / "x")
    entry.symlink_to(tmp_path / "x")
    with pytest.raises(CacheError, match="cache/x: is a link, of another kind"):
        cache.kept("x", ["a.txt"], builder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(CacheError, match="link: builds are kept only in a folder, and not by way"):
        open_cache(link)
    (folder / "y.lock").symlink_to(tmp_path / "made")
    with pytest.raises(CacheError, match="cannot keep what is built: "):
        cache.kept("y", ["a.txt"], builder)
    assert not (tmp_path / "made").exists()
    assert builder.calls == 1


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o701])
def test_a_folder_that_is_open_to_others(folder: Path, builder: Builder, mode: int) -> None:
    cache = open_cache(folder)
    folder.chmod(mode)
    open_cache(folder)  # nothing is in it
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    cache.kept("x", ["a.txt"], builder)
    folder.chmod(mode)
    for use in (lambda: open_cache(folder), lambda: cache.kept("x", ["a.txt"], builder)):
        with pytest.raises(CacheError, match=rf"cache: is open to others \(mode {mode:o}\); .*700"):
            use()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_what_belongs_to_another_user(folder: Path, builder: Builder) -> None:
    cache = open_cache(folder)
    entry = cache.kept("x", ["a.txt"], builder)
    os.chown(entry / "a.txt", 12345, -1)
    with pytest.raises(CacheError, match=r"x/a\.txt: .* or of another user"):
        cache.kept("x", ["a.txt"], builder)
    os.chown(folder, 12345, -1)
    with pytest.raises(CacheError, match=r"cache: belongs to user 12345, not to you \(0\)"):
        open_cache(folder)


def test_a_file_in_the_way(tmp_path: Path, builder: Builder) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(CacheError, match="file: builds are kept only in a folder"):
        open_cache(tmp_path / "file")
    with pytest.raises(
        CacheError, match="file/below: cannot keep what is built: File exists; name"
    ):
        open_cache(tmp_path / "file" / "below")


def test_a_disk_that_is_full(folder: Path, builder: Builder, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    cache = open_cache(folder)
    monkeypatch.setattr("trencadis_format.user_cache.os.fsync", full)
    with pytest.raises(CacheError, match=r"what is built: No space left on .*; make room"):
        cache.kept("x", ["a.txt"], builder)
    assert list(folder.iterdir()) == []


def test_a_build_that_fails_leaves_nothing(folder: Path) -> None:
    def build(work: Path) -> None:
        (work / "a.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_cache(folder).kept("x", ["a.txt"], build)
    assert list(folder.iterdir()) == []


def test_names(folder: Path, builder: Builder) -> None:
    cache = open_cache(folder)
    for name in ("", ".x", "a/b", "..", "x.lock", "x" * 200, "a\n"):
        with pytest.raises(ValueError, match="is no name of an entry"):
            cache.kept(name, ["a.txt"], builder)


KILLED = """
import os, pathlib, signal, sys
from trencadis_format.user_cache import open_cache
def build(work):
    (work / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
open_cache(pathlib.Path(sys.argv[1])).kept(sys.argv[2], ["a.txt"], build)
"""


def test_leftovers_of_builds_that_were_killed(folder: Path, builder: Builder) -> None:
    for name in ("x", "y"):
        done = subprocess.run([sys.executable, "-c", KILLED, str(folder), name], check=False)
        assert done.returncode == -signal.SIGKILL
        # The second build removes what the first has left.
        assert sorted(path.name for path in folder.iterdir()) == [
            f".building-{name}",
            f"{name}.lock",
        ]
    open_cache(folder).kept("x", ["a.txt"], builder)
    assert sorted(path.name for path in folder.iterdir()) == ["x"]
    open_cache(folder).kept("y", ["a.txt"], builder)
    assert sorted(path.name for path in folder.iterdir()) == ["x", "y"]
    assert (folder / "x" / "a.txt").read_text() == "made"


def test_what_nobody_uses_is_removed(folder: Path, builder: Builder) -> None:
    cache = open_cache(folder)
    for name in ("old", "used", "new"):
        cache.kept(name, ["a.txt"], builder)
    for name in ("old", "used"):
        os.utime(folder / name, (0, 0))
    cache.kept("used", ["a.txt"], builder)
    (folder / "notes").mkdir()  # the user's own
    os.utime(folder / "notes", (0, 0))
    cache.kept("other", ["a.txt"], builder)
    assert sorted(path.name for path in folder.iterdir()) == ["new", "notes", "other", "used"]


def _build_slowly(folder: Path, log: Path) -> None:
    def build(work: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        (work / "a.txt").write_text("made")

    entry = open_cache(folder).kept("x", ["a.txt"], build)
    assert (entry / "a.txt").read_text() == "made"


SLOW = """
import pathlib, sys, time
from trencadis_format.user_cache import open_cache
def build(work):
    with open(sys.argv[2], "a") as file:
        file.write("built\\n")
    time.sleep(0.3)
    (work / "a.txt").write_text("made")
entry = open_cache(pathlib.Path(sys.argv[1])).kept("x", ["a.txt"], build)
assert (entry / "a.txt").read_text() == "made"
"""


def test_several_processes_wait_for_one_build(folder: Path, tmp_path: Path) -> None:
    # Scripts, not `multiprocessing`: its children would have to import this file by name.
    log = tmp_path / "log"
    command = [sys.executable, "-c", SLOW, str(folder), str(log)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert log.read_text() == "built\n"
    assert sorted(path.name for path in folder.iterdir()) == ["x"]


def test_several_threads_wait_for_one_build(folder: Path, tmp_path: Path) -> None:
    log, told = tmp_path / "log", []
    first = threading.Thread(target=_build_slowly, args=(folder, log))
    first.start()
    while not log.exists():
        time.sleep(0.01)
    entry = open_cache(folder, told.append).kept("x", ["a.txt"], lambda work: None)
    first.join()
    assert (entry / "a.txt").read_text() == "made"
    assert told == ["waiting for another process that builds the same"]
    assert log.read_text() == "built\n"


def test_other_builds_go_on_meanwhile(folder: Path, builder: Builder, tmp_path: Path) -> None:
    """And what they are making is not taken for a leftover."""
    log = tmp_path / "log"
    first = threading.Thread(target=_build_slowly, args=(folder, log))
    first.start()
    while not log.exists():
        time.sleep(0.01)
    open_cache(folder).kept("y", ["a.txt"], builder)
    assert first.is_alive()
    assert not (folder / "x").exists()
    first.join()
    assert sorted(path.name for path in folder.iterdir()) == ["x", "y"]
