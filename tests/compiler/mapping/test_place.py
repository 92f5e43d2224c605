"""Placement: what fits, what is taken instead, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Layer, Network
from trencadis_compiler.mapping.candidates import plans_for
from trencadis_compiler.mapping.feed import Feed
from trencadis_compiler.mapping.place import Placement, feeds_of, place
from trencadis_compiler.mapping.plan import LayerPlan
from trencadis_compiler.packing.packings import Packings
from trencadis_compiler.packing.tiles import Search
from trencadis_format.config import CoreConfig, EngineConfig

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


def core(**changes: int) -> CoreConfig:
    found = load_board("sim").kernel.core
    return replace(found, engines=(replace(found.engines[0], **changes),))


def cycles(placement: Placement) -> list[float]:
    return [placed.plan.cycles for placed in placement.layers]


def test_fastest_plans_where_there_is_room(network: Network) -> None:
    assert cycles(place(network, core())) == [1152, 512, 64, 4]


def test_a_slower_plan_where_weights_need_room(network: Network) -> None:
    placement = place(network, core(weight_rows=200))
    assert cycles(placement) == [1152, 512, 64, 14]
    assert sum(placed.plan.weight_rows for placed in placement.layers) <= 200


def test_another_plan_where_lists_need_room(network: Network) -> None:
    placement = place(network, core(list_entries=380))
    assert cycles(placement) == [1152, 512, 64, 4]
    assert sum(placed.source.size for placed in placement.layers[1:]) <= 380


def test_maps_are_doubled_where_there_is_room(network: Network) -> None:
    assert [placed.source.buffers for placed in place(network, core()).layers] == [2, 2, 2, 2]
    tight = place(network, core(list_entries=400))
    assert [placed.source.buffers for placed in tight.layers] == [2, 1, 2, 1]


def test_what_cannot_fit_is_not_packed(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_packing(*arguments: object, **options: object) -> Search:
        raise AssertionError("packs kernels that cannot fit")

    monkeypatch.setattr("trencadis_compiler.packing.packings.Search", no_packing)
    engine, layer = core(weight_rows=16).engines[0], network.layers[2]
    with pytest.raises(CompileError, match="no way of sharing them among 26 lanes fits 16 weight"):
        plans_for(layer, engine, feeds_of(network, {})[layer.target])


def test_a_layer_is_packed_once_for_an_engine(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, int]] = []

    def counted(
        layer: Layer, config: EngineConfig, feed: Feed, packings: Packings, *, thorough: bool
    ) -> list[LayerPlan]:
        found.append((layer.name, config.dense_values))
        return plans_for(layer, config, feed, packings, thorough=thorough)

    monkeypatch.setattr("trencadis_compiler.mapping.planner.plans_for", counted)
    first = core().engines[0]
    second = replace(first, dense_values=0)
    place(network, replace(core(), engines=(first, second)))
    assert len(found) == len(set(found))
    # Two engines share four layers in three ways.
    names = [layer.name for layer in network.layers]
    assert set(found) == {(name, first.dense_values) for name in names[:3]} | {
        (name, 0) for name in names[1:]
    }


def test_what_is_missing_is_named(network: Network) -> None:
    with pytest.raises(
        CompileError,
        match=r"^layer 'layer11' needs 6 list entries on engine 0, of which 2 of 370 are left; ",
    ):
        place(network, core(list_entries=370))
