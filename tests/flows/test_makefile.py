"""The Makefile with names that have spaces and quotes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"

NAME = 'my "board" $HOME `id` it\'s.toml'
"""As a shell would take it apart; make itself expands single dollars, so there is a double one."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout whose Python prints what it is given."""
    shutil.copy(MAKEFILE, tmp_path)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    python = binaries / "python"
    python.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "if 'extra' not in sys.argv:\n    print(json.dumps(sys.argv[1:]))\n"
    )
    python.chmod(0o755)
    for stamp in ("pip", "demo", "dev", "boards"):
        (tmp_path / ".venv" / stamp).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("rtl", ["rtl", NAME]),
        ("synth", [NAME]),
        ("explore", [NAME, "--model", NAME]),
        ("bitstream", ["bitstream", NAME, "--model", NAME]),
        ("soak", [NAME]),
        ("xclbin", ["--board", NAME, "-o", f"build/xclbin/{NAME.removesuffix('.toml')}"]),
    ],
)
def test_names_arrive_as_they_are(folder: Path, target: str, last: list[str]) -> None:
    name = NAME.replace("$", "$$")
    done = subprocess.run(
        ["make", "--silent", target, f"BOARD={name}", f"MODEL={name}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[-len(last) :] == last
