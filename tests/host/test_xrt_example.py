"""Programs against XRT's own API and its OpenCL, on the simulated kernel."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_boards import Board
from trencadis_host import Session
from trencadis_hw.container import Overlay
from trencadis_sim.hw_emu.environment import variables
from trencadis_sim.xclbin import write_emulation

EXAMPLES = Path(__file__).parents[2] / "examples" / "xrt"

pytestmark = [pytest.mark.rtl, pytest.mark.usefixtures("xrt_library")]


PROGRAMS = {
    "infer.cpp": (
        ["g++", "-std=c++17", "-I/usr/include/xrt"],
        ["-lxrt_coreutil", "-luuid"],
        "/usr/include/xrt/xrt/xrt_kernel.h",
        "libxrt-dev uuid-dev",
    ),
    "infer_cl.c": (["gcc"], ["-lxilinxopencl"], "/usr/include/CL/cl.h", "opencl-c-headers"),
}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, libraries, header, package = PROGRAMS[request.param]
    if not Path(header).exists() or shutil.which(compiler[0]) is None:
        pytest.skip(f"{compiler[0]} or {header} is not installed (Debian: apt install {package})")
    program = tmp_path_factory.mktemp("program") / "infer"
    command = [*compiler, "-Wall", "-Wextra", "-Werror", str(EXAMPLES / request.param)]
    subprocess.run([*command, "-o", str(program), *libraries], check=True)
    return program


def test_a_program_runs_unchanged(
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
    settings = [f"{name}={value}" for name, value in variables(folder).items()]
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


@pytest.mark.parametrize("device", ["emulator", "sim", "hw_emu", "xrt:0"])
def test_the_python_program_runs_on_every_device(
    device: str, image: Path, overlay: Overlay, build_dir: Path, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(5).normal(0, 2, (20, 16)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    settings = []
    if device == "xrt:0":
        board = Board(name="test", title="test", clock_mhz=100, kernels=1, kernel={})
        folder = tmp_path / "emulation"
        xclbin = write_emulation(
            folder, overlay.kernel, board, units=1, cards=1, build_dir=build_dir
        )
        device = f"xrt:0@{xclbin}"
        settings = [f"{name}={value}" for name, value in variables(folder).items()]
    names = [image, tmp_path / "inputs.npy", tmp_path / "outputs.npy", device]
    program = [sys.executable, str(EXAMPLES / "infer.py"), *map(str, names)]
    done = subprocess.run(
        ["env", *settings, *program],
        cwd=tmp_path if settings else None,  # XRT leaves a log there
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Statistics(words=20" in done.stdout
    with Session(image) as session:
        (expected,) = session.run(None, {"x": inputs})
    assert np.array_equal(np.load(tmp_path / "outputs.npy"), expected)


def test_mistakes_are_one_line(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


def test_a_kernel_of_ones_own(tmp_path: Path) -> None:
    """A kernel in C, without RTL, packed and run as the documentation says."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed (Debian: apt install gcc)")
    program = [sys.executable, str(EXAMPLES / "adder.py")]
    folder = tmp_path / "adder"
    subprocess.run([*program, str(folder)], check=True)
    settings = [f"{name}={value}" for name, value in variables(folder).items()]
    done = subprocess.run(
        ["env", *settings, *program, "--run", str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for unit in (1, 2):
        for count in (1, 1000, 7):
            assert f"adder_{unit} added {count} numbers" in done.stdout
