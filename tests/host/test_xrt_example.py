"""A C++ program against XRT's own API, on the simulated kernel."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_boards import Board
from trencadis_hw.container import Overlay
from trencadis_sim.hw_emu.environment import variables
from trencadis_sim.xclbin import write_emulation

SOURCE = Path(__file__).parents[2] / "examples" / "xrt" / "infer.cpp"

pytestmark = [pytest.mark.rtl, pytest.mark.usefixtures("xrt_library")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not Path("/usr/include/xrt/xrt/xrt_kernel.h").exists():
        pytest.skip("XRT's headers are not installed (Debian: apt install libxrt-dev uuid-dev)")
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    program = tmp_path_factory.mktemp("program") / "infer"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I/usr/include/xrt"]
    libraries = ["-lxrt_coreutil", "-luuid"]
    subprocess.run(["g++", *flags, str(SOURCE), "-o", str(program), *libraries], check=True)
    return program


def test_a_cpp_program_runs_unchanged(
    program: Path,
    overlay: Overlay,
    build_dir: Path,
    tmp_path: Path,
    words: Callable[..., Any],
    expected: Callable[..., Any],
) -> None:
    board = Board(name="test", title="test", clock_mhz=100, kernels=1, kernel={})
    folder = tmp_path / "emulation"
    xclbin = write_emulation(folder, overlay.kernel, board, units=1, cards=1, build_dir=build_dir)
    packed = words(20)
    (tmp_path / "image").write_bytes(overlay.image)
    (tmp_path / "input").write_bytes(packed.tobytes())
    sizes = (overlay.input_bytes, overlay.output_bytes, overlay.kernel.bus_bytes)
    files = [str(tmp_path / name) for name in ("image", "input", "output")]
    user = f"trencadis-{os.getuid()}"
    settings = [f"{name}={value}" for name, value in variables(folder, user).items()]
    done = subprocess.run(
        ["env", *settings, str(program), str(xclbin), *files, *map(str, sizes)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        # XRT signals its whole process group when it crashes.
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "20 words in " in done.stdout
    results = np.fromfile(tmp_path / "output", np.uint8)
    assert np.array_equal(results, expected(packed).reshape(-1))
    assert not list(folder.glob(".run/*/hw_em/*"))


def test_mistakes_are_one_line(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")
