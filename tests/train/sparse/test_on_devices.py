"""Networks that the engine trains run whole on the overlay, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from trencadis_bench.verify.verify import reference_outputs
from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_format.compiled import OverlaySegment
from trencadis_host.session import Session
from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.trainer import SparseTrainer

MakeSparse = Callable[..., Recipe]


@pytest.mark.parametrize(
    ("activation", "device"),
    [
        ("all-relu", "emulator"),
        ("leaky-relu", "emulator"),
        pytest.param("all-relu", "sim", marks=pytest.mark.rtl),
    ],
)
def test_negative_sums_count_on_devices_too(
    make_sparse: MakeSparse,
    quadrants: Splits,
    activation: str,
    device: str,
    tmp_path: Path,
    build_dir: Path,
) -> None:
    recipe = make_sparse(sparse={"activation": activation}, training={"epochs": 2})
    network = SparseTrainer(recipe, quadrants, tmp_path).run().network
    model, image = tmp_path / "tiny.onnx", tmp_path / "tiny.tcd"
    compiled = compile_model(model, load_board("sim"), input_nonzeros=144)
    (segment,) = compiled.compiled.segments
    assert isinstance(segment, OverlaySegment)
    compiled.save(image)
    images = quadrants.test.images[: 4 if device == "sim" else None]
    x = images[:, None].astype(np.float32)
    with Session(image, device, build_dir=build_dir) as session:
        (outputs,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.array_equal(outputs, reference_outputs(model, compiled.overlay, x))
    assert np.array_equal(outputs, network(images))
