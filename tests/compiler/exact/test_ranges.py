"""Bounds on sums hold for every layer, requantised or not."""

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import Options, compile_model, import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import prove_range
from trencadis_format.compiled import CutSegment
from trencadis_host import Session


@pytest.fixture
def path(writer):
    """Outputs that are sums: 96 ones times weights of 127 need 23 bits, an accumulator has 22."""
    w = writer(shape=(96,))
    x = w.quantised("x", 1 / 255, 0, np.uint8)
    return w.save(w.node("MatMul", x, w.integers(np.full((96, 4), 127), 1 / 127)), 4)


def test_sums_that_leave_the_accumulator_are_refused(path) -> None:
    layer = import_model(path).layers[0]
    prove_range(layer, None, 23)
    with pytest.raises(CompileError, match=r"sums may reach 0\.\.3108960, more than the 22 bits"):
        prove_range(layer, None, 22)


def test_and_are_added_on_the_host(path, tmp_path) -> None:
    compiled = compile_model(path, load_board("sim"), options=Options(strict=True))
    (segment,) = compiled.compiled.segments
    assert isinstance(segment, CutSegment)
    (stage,) = segment.stages
    assert stage.join.sums
    assert len(stage.pieces) == 2
    compiled.save(tmp_path / "net.tcd")
    with Session(tmp_path / "net.tcd") as session:
        (found,) = session.run(None, {"x": np.ones((1, 96), np.float32)})
    assert found[0] == pytest.approx(96.0)
