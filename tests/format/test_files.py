import io
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trencadis_format.errors import FileError, InputError
from trencadis_format.files import check_output, load_array, read_file, read_text, write_atomically


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint8", "int64", ">f4", "bool"])
def test_arrays_come_back(tmp_path, dtype) -> None:
    path = tmp_path / "x.npy"
    array = np.asfortranarray(np.arange(24).reshape(2, 3, 4)).astype(dtype)
    np.save(path, array)
    loaded = load_array(path)
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)
    assert not isinstance(loaded, np.memmap)


def huge() -> bytes:
    """80 GB by its header."""
    return saved(np.zeros((10, 10), np.float64)).replace(
        b"'shape': (10, 10), }          ", b"'shape': (100000, 100000), }  "
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an array of numbers"),
        (b"some text\n", "not an array of numbers"),
        (saved(np.zeros(100))[:-1], "not an array of numbers"),
        (huge(), "not an array of numbers"),
        (saved(np.array(["text"])), "an array of <U4, not of numbers"),
        (saved(np.zeros(2, np.complex64)), "an array of complex64, not of numbers"),
        (saved(np.zeros(2, "i4,f4")), "not of numbers"),
    ],
    ids=["empty", "text", "truncated", "huge", "strings", "complex", "records"],
)
def test_other_files(tmp_path, data, message) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        load_array(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_pickles_are_not_loaded(tmp_path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"an": "object"}], object), allow_pickle=True)
    with pytest.raises(
        InputError, match=r"x\.npy: holds Python objects, which are not loaded; save numbers$"
    ):
        load_array(path)


def test_several_arrays(tmp_path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(
        InputError,
        match=r"not an array of numbers \(it is a zip archive, as \.npz files are\); give an \.npy",
    ):
        load_array(path)


def test_not_a_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none.npy", tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="cannot be read: "):
            load_array(path)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files(tmp_path, data) -> None:
    damaged = bytearray(saved(np.arange(6.0).reshape(2, 3)))
    place = st.integers(0, len(damaged) - 1)
    for index, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=5)):
        damaged[index] = value
    path = tmp_path / "x.npy"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        loaded = load_array(path)
    except InputError:
        with pytest.raises(InputError, match=r"^.*$"):
            load_array(path)
    else:
        assert loaded.nbytes <= len(damaged)


def test_text_is_read_up_to_its_limit(tmp_path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes("größe\n".encode())
    assert read_text(path) == "größe\n"
    assert read_file(path, 8) == "größe\n".encode()
    with pytest.raises(FileError, match=r"x\.toml: 8 bytes, more than the 7 that are read"):
        read_file(path, 7)
    path.write_bytes(b"abc\xff")
    with pytest.raises(FileError, match=r"x\.toml: not text: byte 3 is not UTF-8"):
        read_text(path)


def test_files_without_a_size_are_read_up_to_their_limit() -> None:
    assert read_file(Path("/proc/self/status"), 1 << 16).startswith(b"Name:")
    with pytest.raises(FileError, match="status: more than the 9 bytes that are read"):
        read_file(Path("/proc/self/status"), 9)


# --- writing -------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "net.tcd"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_that_open_gives(path, umask, mode) -> None:
    before = os.umask(umask)
    try:
        write_atomically(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


def test_a_replaced_file_keeps_its_permissions(path) -> None:
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_symlink_is_followed(path) -> None:
    real = path.with_name("real.tcd")
    path.symlink_to(real.name)
    write_atomically(path, b"new")  # a link that leads nowhere yet
    assert path.readlink() == Path(real.name)
    assert real.read_bytes() == b"new"
    inode = real.stat().st_ino
    write_atomically(path, b"newer")
    assert path.readlink() == Path(real.name)
    assert real.read_bytes() == b"newer"
    assert real.stat().st_ino != inode  # replaced whole, never half written


def test_links_that_go_round(path) -> None:
    path.symlink_to(path.name)
    with pytest.raises(FileError, match=r"net\.tcd: cannot be used: Too many levels of symbolic"):
        write_atomically(path, b"new")
    with pytest.raises(FileError, match=r"net\.tcd: cannot be used"):
        check_output(path)


def test_a_fifo_is_written_to(path) -> None:
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    write_atomically(path, b"new")
    reader.join()
    assert received == [b"new"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
def test_a_character_device_stays_one(path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    link = path.with_name("link.tcd")
    link.symlink_to(path)
    for target in (path, link):
        check_output(target, [target])
        write_atomically(target, b"new")
    assert stat.S_ISCHR(path.stat().st_mode)
    assert sorted(file.name for file in path.parent.iterdir()) == ["link.tcd", "net.tcd"]


def test_standard_output_is_written_to_at_its_end(path) -> None:
    with path.open("wb") as file:
        subprocess.run(
            [sys.executable, "-c", "print('before', flush=True)\n" + WRITE, "/dev/stdout"],
            stdout=file,
            check=True,
        )
    assert path.read_bytes() == b"before\nnew"
    piped = subprocess.run(
        [sys.executable, "-c", WRITE, "/dev/stdout"], capture_output=True, check=True
    )
    assert piped.stdout == b"new"


WRITE = """
import pathlib, sys
from trencadis_format.files import write_atomically
write_atomically(pathlib.Path(sys.argv[1]), b"new")
"""


def test_a_folder_that_is_not_there(tmp_path) -> None:
    path = tmp_path / "none" / "net.tcd"
    with pytest.raises(FileError, match=r"none/net\.tcd: cannot be written: No such file"):
        write_atomically(path, b"data")
    with pytest.raises(FileError, match=r"none/net\.tcd: cannot be written: there is no folder"):
        check_output(path)


def test_a_folder_in_the_way(tmp_path) -> None:
    (tmp_path / "net.tcd").mkdir()
    for write in (lambda path: write_atomically(path, b"data"), check_output):
        with pytest.raises(FileError, match="cannot be written: it is a folder; give the name of"):
            write(tmp_path / "net.tcd")
    assert [file.name for file in tmp_path.iterdir()] == ["net.tcd"]


def test_nothing_is_left_when_writing_fails(path, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_bytes(b"old")
    monkeypatch.setattr("trencadis_format.files.os.fsync", full)
    with pytest.raises(FileError, match="cannot be written: No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_input_is_not_overwritten(path) -> None:
    path.write_bytes(b"old")
    link, hard, other = (path.with_name(name) for name in ("link", "hard", "other"))
    link.symlink_to(path)
    os.link(path, hard)
    for output in (path, link, hard, path.parent / "." / path.name):
        with pytest.raises(FileError, match=r": is the input .*net\.tcd, which would be over"):
            check_output(output, [None, other, path])
    check_output(other, [None, path])
    with pytest.raises(FileError, match=r"other: is the input .*other, which would be over"):
        check_output(other, [other])  # an input that is not there is not made by its own output


def test_names_that_cannot_be(tmp_path) -> None:
    for name in ("x" * 300, "nul\0"):
        with pytest.raises(FileError, match=r"^[^\n]*cannot be (used|written)[^\n]*$"):
            write_atomically(tmp_path / name, b"new")
    long = tmp_path / ("x" * 255)
    write_atomically(long, b"new")
    assert long.read_bytes() == b"new"


KILLED = """
import os, signal, sys
from pathlib import Path
from trencadis_format import files
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), b"new" * 100_000)
"""


def test_a_process_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert path.read_bytes() == b"old"


def test_where_files_must_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis_format.files._open_unnamed", lambda folder: None)
    write_atomically(tmp_path / "out", b"data")
    assert (tmp_path / "out").read_bytes() == b"data"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
