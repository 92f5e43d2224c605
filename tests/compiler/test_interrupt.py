"""Ctrl-C at any moment ends a compile at once, in one line, with nothing half-written."""

import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples/digits/digits.onnx"

SCRIPT = """
import os, signal, sys
from trencadis_compiler import cli
from trencadis_format import compiled as form

where = sys.argv.pop(1)
told = []

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

if where == "write":
    parts = form.container_parts

    def container_parts(*args):
        found = list(parts(*args))
        yield found[0]
        interrupt()
        yield from found[1:]

    form.container_parts = container_parts
else:
    compile_model = cli.compile_model

    def counted(*args, progress, **options):
        def tell(text):
            told.append(text)
            if len(told) == int(where):
                interrupt()
        return compile_model(*args, progress=tell, **options)

    cli.compile_model = counted
cli.main()
"""


@pytest.mark.parametrize(
    "where", ["1", *(pytest.param(n, marks=pytest.mark.slow) for n in "2358"), "write"]
)
@pytest.mark.parametrize("old", [False, True])
def test_an_interrupt_leaves_what_was_there(where: str, old: bool, tmp_path: Path) -> None:
    target = tmp_path / "digits.tcd"
    if old:
        target.write_bytes(b"an older file")
    command = [sys.executable, "-c", SCRIPT, where, str(DIGITS), "-o", str(target), "--no-verify"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 130, result.stderr
    assert result.stderr.strip().splitlines()[-1].endswith("interrupted")
    assert list(tmp_path.iterdir()) == ([target] if old else [])
    assert not old or target.read_bytes() == b"an older file"
