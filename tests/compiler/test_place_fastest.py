"""Leaving to the host what is faster there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trencadis_boards import load_board
from trencadis_compiler.cli import main
from trencadis_compiler.compile import Compiled, compile_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.options import Options
from trencadis_compiler.verify.check import check_compiled

FASTEST = Options(fastest=True)


@pytest.fixture
def path(writer) -> Path:
    """Two layers with a maximum between them: one of many products, one of few."""
    w = writer(shape=(16, 12, 12))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(16, 16, 5, 5, density=1.0)))
    y = w.node("ReduceMax", w.quantised(y, 2**-2), axes=[2, 3], keepdims=0)
    y = w.node("MatMul", w.quantised(y, 2**-2), w.integers(w.sparse(16, 4)))
    return w.save(w.quantised(y, 2**-2), 4)


def segments(compiled: Compiled) -> list[tuple[str, str]]:
    return [(entry["place"], entry["reason"]) for entry in compiled.compiled.report["segments"]]


def layers(compiled: Compiled) -> list[str]:
    return [layer["name"] for layer in compiled.compiled.report["layers"]]


def test_what_pays_stays_and_what_does_not_goes(path: Path) -> None:
    board = load_board("sim")
    whole = compile_model(path, board)
    assert [place for place, _ in segments(whole)] == ["overlay", "host", "overlay"]
    # At this clock the convolution of 10,000 cycles is slower than a processor.
    slow = replace(board, clock_mhz=20)
    some = compile_model(path, slow, options=FASTEST)
    assert layers(some) == layers(whole)[1:]
    assert [place for place, _ in segments(some)] == ["host", "overlay"]
    (_, host), (_, overlay) = segments(some)
    assert "faster on the host: " in host
    assert " us on the overlay, 0 us of these for transfers (modelled)" in host
    assert overlay.endswith(" us on the host (modelled)")
    assert check_compiled(some).reason == ""
    never = compile_model(path, replace(board, clock_mhz=1e-3), options=FASTEST)
    assert layers(never) == []
    assert compile_model(path, replace(board, clock_mhz=1e6), options=FASTEST).segments[1:]


def test_what_is_placed_by_name_stays(path: Path) -> None:
    board = replace(load_board("sim"), clock_mhz=1e-3)
    name = layers(compile_model(path, board))[0]
    options = replace(FASTEST, on_overlay=(name,))
    compiled = compile_model(path, board, options=options)
    assert layers(compiled) == [name]
    assert segments(compiled)[0][1].endswith("placed there by --place")


def test_transfers_count(path: Path) -> None:
    board = load_board("u250")
    flow: Any = replace(board.flow, host_bytes_per_s=1e3)  # type: ignore[type-var]
    assert layers(compile_model(path, board, options=FASTEST)) != []
    assert layers(compile_model(path, replace(board, flow=flow), options=FASTEST)) == []


def test_the_command(path: Path, tmp_path: Path) -> None:
    arguments = [str(path), "--place", "fastest", "--no-advice", "--json"]
    images = []
    for name in ("a.tcd", "b.tcd"):
        done = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert all(entry["reason"] for entry in json.loads(done.stdout)["segments"])
        images.append((tmp_path / name).read_bytes())
    assert images[0] == images[1]
    done = CliRunner().invoke(main, [*arguments, "--strict"])
    assert done.exit_code == 2
    assert "--strict refuses what --place fastest leaves to the host; give one" in done.stderr
    done = CliRunner().invoke(main, [str(path), "--place", "quickest"])
    assert "--place quickest: give NODE=host, NODE=overlay or fastest" in done.stderr


def test_strict_and_fastest_exclude_each_other() -> None:
    with pytest.raises(CompileError, match="--strict refuses what --place fastest leaves"):
        Options(strict=True, fastest=True)
