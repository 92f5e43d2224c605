"""Usual networks in the ways that people export them: compiled, and judged by their files."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from trencadis_bench.models.architectures import ARCHITECTURES
from trencadis_bench.models.board import write_large_board
from trencadis_bench.models.exports import WAYS, Way, export_architecture
from trencadis_boards import Board, load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.verify.check import check_compiled

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's exporters say much

TRIALS: tuple[tuple[str, Way, float], ...] = (
    ("lenet-pruned", "new", 1),
    ("lenet-pruned", "qoperator", 0),
    ("keywords-1d", "old", 1),
    ("mobilenet", "qdq", 1),
    ("tcn", "old-open-batch", 1),
    ("mlp-layernorm-gelu", "new", 1),
    ("lstm", "old", 0),
    ("transformer-layer", "new", 0.9),
    ("unet", "qdq", 1),
)
"""A network, how it is exported, and the least share of its multiplications on the overlay."""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    sim = Path(load_board.__code__.co_filename).parent / "sim.toml"
    return load_board(str(write_large_board(sim, tmp_path_factory.mktemp("board") / "large.toml")))


@pytest.mark.parametrize(("name", "way", "share"), TRIALS)
def test_exports_compile(tmp_path: Path, board: Board, name: str, way: Way, share: float) -> None:
    path = export_architecture(name, way, tmp_path)
    calibration = None
    if not way.startswith("q"):
        shape = ARCHITECTURES[name][1]
        calibration = np.random.default_rng(1).normal(size=(8, *shape)).astype(np.float32)
    compiled = compile_model(path, board, calibration=calibration)
    assert compiled.compiled.report["overlay_share"] >= share
    check = check_compiled(compiled)
    assert (check.reason, check.tensors > 0) == ("", True)


def test_every_network_and_way_is_tried() -> None:
    assert {way for _, way, _ in TRIALS} == set(WAYS)
    assert set(ARCHITECTURES) - {name for name, _, _ in TRIALS} == {"resnet20"}


def test_weights_lie_beside_the_model(tmp_path: Path) -> None:
    path = export_architecture("keywords-1d", "new", tmp_path)
    model = onnx.load(path, load_external_data=False)
    assert any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
