"""Layers that were cut in every way, put together again: equal to the layer before it was cut."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.fixtures.cut_layers import GRIDS, LAYERS
from tests.fixtures.networks import (
    KERNELS,
    LayerSpec,
    NetworkSpec,
    k_winners,
    network,
    random_network,
)

from trencadis_compiler.cutting.choose_grid import cut_programs
from trencadis_compiler.cutting.grid import Grid
from trencadis_compiler.cutting.plan_cut import Cut, CutStage
from trencadis_compiler.cutting.program import Target
from trencadis_compiler.exact.reference import evaluate
from trencadis_compiler.ir.network import Pool
from trencadis_compiler.mapping.chain import chain_of
from trencadis_compiler.mapping.planner import Planner
from trencadis_compiler.packing.tiles import FULL_EFFORT
from trencadis_compiler.segments.cut_segment import compile_cut
from trencadis_format.cut_segment import CutSegment
from trencadis_format.pieces import Piece, Region
from trencadis_format.tensors import output_tensor
from trencadis_host.devices.cpu.programs import UnsuitableError
from trencadis_host.devices.cpu.segment import open_segment
from trencadis_host.devices.cpu.whole import whole_layers
from trencadis_host.devices.protocol import DeviceOptions

KERNEL = KERNELS["groups"]


def cut(spec: NetworkSpec, grid: Grid) -> CutSegment:
    """The segment of a network, each of whose layers is cut by a grid."""
    source = random_network(spec, seed=4)
    target = Target(KERNEL, {}, Planner(FULL_EFFORT, lambda text: None))
    stages, images = [], 0
    for layer in chain_of(source):
        found = cut_programs(layer, grid, target)
        assert found is not None
        stage, programs = found
        stages.append(CutStage(stage.from_image(images), programs))
        images += len(programs)
    return compile_cut(Cut(source, tuple(stages), {}), KERNEL, {})


def check(segment: CutSegment, spec: NetworkSpec) -> None:
    """Compare the whole segment with exact arithmetic."""
    device = open_segment("", segment, DeviceOptions(threads=1))
    assert device is not None
    with device:
        for samples in (1, 5):
            keys = np.random.default_rng(samples).integers(0, 256, (samples, *spec.shape))
            integers = (keys - segment.input.key_offset).astype(segment.input.dtype)
            found, statistics = device.run(integers)
            exact = evaluate(random_network(spec, 4), keys).transpose(0, 2, 3, 1)
            expected: Any = output_tensor(segment.output, exact)
            assert found.shape == expected.shape
            assert np.array_equal(found, expected)
            assert statistics.samples == samples
            assert (found != found.flat[0]).any()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "whole"])
def test_a_layer_in_pieces_is_computed_whole(name: str, grid: str) -> None:
    spec = network((5, 9, 8), LAYERS[name], zero_point=-7)
    segment = cut(spec, GRIDS[grid])
    assert len(segment.stages[0].pieces) > 1
    check(segment, spec)


def test_layers_after_one_another() -> None:
    spec = network(
        (3, 12, 11),
        LayerSpec(6, (3, 3), padding=(1, 1, 1, 1), zero_point=3),
        LayerSpec(8, (3, 3), padding=(1, 1, 1, 1), stride=(2, 2), winners=k_winners(3)),
        LayerSpec(5, (2, 2), pool=Pool((2, 2), (2, 2))),
        LayerSpec(4, None, raw=True),
        zero_point=9,
    )
    check(cut(spec, GRIDS["all"]), spec)


def test_what_pieces_do_else_is_left_to_them() -> None:
    """Winners of a whole map; a piece that is left out, moved, or computed twice."""
    spec = network((5, 9, 8), LAYERS["whole"])
    segment = cut(spec, GRIDS["outputs"])
    assert open_segment("", segment, DeviceOptions()) is None
    segment = cut(network((5, 9, 8), LAYERS["conv"]), GRIDS["all"])
    (stage,) = segment.stages
    first, *rest = stage.pieces
    down = Region(first.reads.channels, _moved(first.reads.rows), first.reads.columns)
    for wrong, message in (
        (tuple(rest), "leave outputs out"),
        ((Piece(first.image, down, first.writes), *rest), "different weights"),
        ((first, first, *rest), "added twice"),
    ):
        damaged = replace(segment, stages=(replace(stage, pieces=wrong),))
        with pytest.raises(UnsuitableError, match=message):
            whole_layers(damaged)


def _moved(span: tuple[int, int]) -> tuple[int, int]:
    return span[0] + 1, span[1] + 1
