"""Programs against XRT's own API and its OpenCL, on the simulated kernel."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_boards import Board
from trencadis_format.overlay import Overlay
from trencadis_host import Session
from trencadis_sim.hw_emu.environment import variables
from trencadis_sim.hw_emu.xclbin import write_emulation

EXAMPLES = Path(__file__).parents[3] / "examples" / "xrt"

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


def run_program(
    command: Sequence[object], folder: Path | None, cwd: Path | None
) -> subprocess.CompletedProcess[str]:
    """Run a program, with XRT finding the emulated card of a folder; it must succeed."""
    settings = [] if folder is None else [f"{k}={v}" for k, v in variables(folder).items()]
    done = subprocess.run(
        ["env", *settings, *map(str, command)],
        cwd=cwd,  # XRT leaves a log there
        capture_output=True,
        text=True,
        timeout=300,
        # XRT signals its whole process group when it crashes.
        start_new_session=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def emulate(folder: Path, overlay: Overlay, build_dir: Path) -> Path:
    """The xclbin of an emulated card with one compute unit."""
    board = Board(name="test", title="test", clock_mhz=100, compute_units=1, kernel=overlay.kernel)
    return write_emulation(folder, overlay.kernel, board, units=1, cards=1, build_dir=build_dir)


def test_a_program_runs_unchanged(
    program: Path,
    overlay: Overlay,
    build_dir: Path,
    tmp_path: Path,
    samples: Callable[..., Any],
    expected: Callable[..., Any],
) -> None:
    folder = tmp_path / "emulation"
    xclbin = emulate(folder, overlay, build_dir)
    packed = samples(20)
    (tmp_path / "image").write_bytes(overlay.image)
    (tmp_path / "input").write_bytes(packed.tobytes())
    sizes = (overlay.input_bytes, overlay.output_bytes, overlay.kernel.bus_bytes)
    files = [str(tmp_path / name) for name in ("image", "input", "output")]
    done = run_program([program, xclbin, *files, *sizes], folder, tmp_path)
    assert "20 samples in " in done.stdout
    results = np.fromfile(tmp_path / "output", np.uint8)
    assert np.array_equal(results, expected(packed).reshape(-1))
    assert not list(folder.glob(".run/*/hw_em/*"))


@pytest.mark.parametrize("device", ["emulator", "sim", "hw_emu", "xrt:0"])
def test_the_python_program_runs_on_every_device(
    device: str, image: Path, overlay: Overlay, build_dir: Path, tmp_path: Path
) -> None:
    inputs = np.random.default_rng(5).normal(0, 2, (20, 16)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    folder = None
    if device == "xrt:0":
        folder = tmp_path / "emulation"
        device = f"xrt:0@{emulate(folder, overlay, build_dir)}"
    names = [image, tmp_path / "inputs.npy", tmp_path / "outputs.npy", device]
    # Simulators are kept below the folder of the tests.
    cwd = None if folder is None else tmp_path
    done = run_program([sys.executable, EXAMPLES / "infer.py", *names], folder, cwd)
    assert "Statistics(samples=20" in done.stdout
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
    done = run_program([*program, "--run", folder], folder, tmp_path)
    for unit in (1, 2):
        for count in (1, 1000, 7):
            assert f"adder_{unit} added {count} numbers" in done.stdout
