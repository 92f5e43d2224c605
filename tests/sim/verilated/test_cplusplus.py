"""C++ into shared libraries."""

import ctypes
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trencadis_sim.verilated.cplusplus import (
    CppError,
    Unit,
    compile_units,
    group_sources,
    link,
    run_tool,
)

ENVIRONMENT = {"PATH": os.defpath}


@pytest.mark.parametrize(("unit_bytes", "files"), [(10_000, 1), (120, 3), (1, 5)])
def test_sources_are_dealt_out_by_size(tmp_path: Path, unit_bytes: int, files: int) -> None:
    sources = []
    for number, size in enumerate([100, 20, 90, 30, 60]):
        sources.append(tmp_path / f"part{number}.cpp")
        sources[-1].write_text(f"//{number}" + "x" * (size - 3))
    grouped = group_sources(sources, unit_bytes, tmp_path, "unit")
    assert len(grouped) == files
    sizes = [len(path.read_text().replace("\n", "")) for path in grouped]
    assert sizes == sorted(sizes, reverse=True)
    together = "\n".join(path.read_text() for path in grouped)
    assert sorted(together.split("\n")) == sorted(path.read_text() for path in sources)
    if files == 3:
        assert sizes == [110, 100, 90]


def test_units_become_a_library(tmp_path: Path) -> None:
    (tmp_path / "one.cpp").write_text('extern "C" int one() { return NUMBER; }')
    (tmp_path / "two.cpp").write_text(
        'extern "C" int one(); extern "C" int two() { return one() + 1; }'
    )
    told: list[str] = []
    units = [
        Unit(tmp_path / "one.cpp", ("-fPIC", "-DNUMBER=41")),
        Unit(tmp_path / "two.cpp", ("-fPIC",)),
    ]
    objects = compile_units(units, tmp_path, ENVIRONMENT, told.append, jobs=1)
    assert [path.name for path in objects] == ["one.o", "two.o"]
    assert told[-1] == "compiling C++: 2 of 2 files"
    link(objects, tmp_path / "both.so", tmp_path, ENVIRONMENT)
    assert ctypes.CDLL(str(tmp_path / "both.so")).two() == 42


def test_a_mistake_is_one_line_and_stops_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.cpp").write_text("int one() { return nothing; }\n")
    # A compiler that would take for ever reads from a pipe to which nobody writes.
    os.mkfifo(tmp_path / "slow.cpp")
    units = [Unit(tmp_path / "slow.cpp", ()), Unit(tmp_path / "bad.cpp", ())]
    with pytest.raises(CppError, match=r"^g\+\+ failed with exit status 1: .*nothing") as error:
        compile_units(units, tmp_path, ENVIRONMENT, lambda text: None, jobs=2)
    assert "\n" not in str(error.value)
    # Opening a pipe for writing fails where nobody reads: the compiler is gone.
    with pytest.raises(OSError, match="No such device or address"):
        os.open(tmp_path / "slow.cpp", os.O_WRONLY | os.O_NONBLOCK)


def test_the_end_of_the_program_is_that_of_its_compilers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.cpp")
    script = (
        "import sys; from pathlib import Path\n"
        "from trencadis_sim.verilated.cplusplus import Unit, compile_units\n"
        "folder = Path(sys.argv[1])\n"
        f"compile_units([Unit(folder / 'slow.cpp', ())], folder, {ENVIRONMENT}, print)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    # It can be opened for writing when somebody reads: the compiler is there, and waits for more.
    pipe = os.open(tmp_path / "slow.cpp", os.O_WRONLY)
    program.terminate()
    assert program.wait(timeout=60) == 128 + signal.SIGTERM
    with pytest.raises(BrokenPipeError):
        os.write(pipe, b" ")
    os.close(pipe)


def test_other_threads_compile_too(tmp_path: Path) -> None:
    (tmp_path / "one.cpp").write_text("int one() { return 1; }")
    unit = Unit(tmp_path / "one.cpp", ())
    with ThreadPoolExecutor() as pool:
        made = pool.submit(compile_units, [unit], tmp_path, ENVIRONMENT, lambda text: None)
    assert made.result() == [tmp_path / "one.o"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_tool_that_fails_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(CppError, match=r"^false failed with exit status 1: no output$"):
        run_tool(["false"], tmp_path, ENVIRONMENT)
    assert run_tool(["echo", "hello"], tmp_path, ENVIRONMENT) == "hello\n"
