"""Every kind of cut of a layer equals the whole layer, in exact arithmetic."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from tests.fixtures.cut_layers import GRIDS, LAYERS
from tests.fixtures.networks import LayerSpec, network, random_network

from trencadis_compiler.cutting.grid import Grid, cut_layer
from trencadis_compiler.exact.reference import layer_output
from trencadis_compiler.ir.network import Layer
from trencadis_format.pieces import Stage
from trencadis_host.joins import run_stage


def a_layer(spec: LayerSpec) -> Layer:
    return random_network(network((5, 9, 8), spec, zero_point=-7), seed=4).layers[0]


def channels_last(maps: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    return maps.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", LAYERS)
def test_pieces_make_the_whole_layer(name: str, grid: str) -> None:
    layer = a_layer(LAYERS[name])
    keys = np.random.default_rng(1).integers(0, 256, (4, *layer.in_shape)).astype(np.uint8)
    parts, stage = cut_layer(layer, GRIDS[grid])
    assert Stage.from_dict(json.loads(json.dumps(stage.to_dict()))) == stage
    ran: list[int] = []

    def run(image: int, inputs: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        ran.append(image)
        part = parts[image]
        assert inputs.shape[1:] == (*part.in_shape[1:], part.in_shape[0])
        made = layer_output(part, inputs.transpose(0, 3, 1, 2).astype(np.int64))
        return channels_last(made).astype(np.int64)

    found = run_stage(stage, channels_last(keys), run)
    expected = channels_last(layer_output(layer, keys.astype(np.int64)))
    assert np.array_equal(found, expected)
    assert ran == list(range(len(parts))), "every image is loaded once"
    assert (found != expected[0, 0, 0, 0]).any()


def test_strips_share_an_image() -> None:
    parts, stage = cut_layer(a_layer(LAYERS["conv"]), Grid(row_strips=3, column_strips=2))
    assert len(parts) == 1
    assert len(stage.pieces) == 6
    assert {piece.reads.shape for piece in stage.pieces} == {(5, 5, 6)}


def test_numbers_of_images_go_on() -> None:
    _, stage = cut_layer(a_layer(LAYERS["conv"]), Grid(output_groups=3), first_image=5)
    assert stage.images == (5, 6, 7)


def test_an_uncut_layer_is_left_to_the_device() -> None:
    layer = a_layer(LAYERS["conv"])
    parts, stage = cut_layer(layer, Grid())
    assert stage.whole
    assert parts[0].weights is layer.weights
