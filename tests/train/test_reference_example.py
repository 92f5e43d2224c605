"""The reference network that is shipped is what its recipe and metrics say, and packs."""

import json
from pathlib import Path

import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_train.recipe import load_recipe, parse_recipe

FOLDER = Path(__file__).parents[2] / "examples/speech_commands"
METRICS = json.loads((FOLDER / "metrics.json").read_text())
RECIPE = FOLDER / "sparse_sparse.toml"


def test_it_is_that_of_its_recipe_and_good_enough() -> None:
    made_by = parse_recipe(METRICS["recipe"])
    # The dense network of the same seed, from wherever it was.
    dense = made_by.training.start
    assert Path(dense).name == f"dense.{made_by.seed}"
    changes = [
        f"seed={made_by.seed}",
        f"training.start={dense}",
        f"distillation.teacher={dense}",
    ]
    assert load_recipe(RECIPE, changes) == made_by
    assert METRICS["accuracy"]["int8"]["test"] >= 0.966


def test_it_packs_with_nothing_left_over() -> None:
    pytest.importorskip("onnx")
    report = compile_model(FOLDER / "reference.onnx", load_board("u250")).overlay.report
    assert report["nonzero_weights"] == METRICS["nonzeros"]
    layers = load_recipe(RECIPE).layer
    for found, trained, layer in zip(report["layers"], METRICS["layers"], layers, strict=True):
        assert found["nonzeros"] == trained["nonzeros"]
        assert found["kernels_per_tile"] == layer.ways
        assert found["tiles"] == layer.units // layer.ways
        assert found["packing_efficiency"] > 0.9
    read = [found["input_entries"] for found in report["layers"]]
    assert read == [1, *(layer.winners for layer in layers[:-1])]
