"""Memories that are made to fit a network."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.compile import import_model
from trencadis_compiler.emit.assemble import assemble
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.kernels import Kernels
from trencadis_compiler.ir.network import Network
from trencadis_compiler.mapping.place import place
from trencadis_compiler.mapping.schedule import schedule
from trencadis_compiler.mapping.size_memories import roomy, smallest_memories, with_memories_for
from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig

DIGITS = Path(__file__).parents[3] / "examples/digits/digits.onnx"

ARRAYS = (
    "lanes",
    "tiles",
    "kernels_per_tile",
    "groups",
    "routing",
    "requantisers",
    "select_rows",
    "whole_rows",
)
POWERS_OF_TWO = ("queue_beats", "list_entries")


@pytest.fixture(scope="module")
def network() -> Network:
    return import_model(DIGITS)


@pytest.fixture(scope="module")
def core() -> CoreConfig:
    return load_board("sim").kernel.core


def dense(network: Network) -> Network:
    """The network with every weight, and every activation."""
    layers = (
        replace(layer, winners=None, weights=Kernels.of(np.full_like(layer.weights.dense(), -3)))
        for layer in network.layers
    )
    return replace(network, layers=tuple(layers))


def chain() -> CoreConfig:
    """Two engines for the demo's network."""
    first = EngineConfig(
        lanes=25, tiles=8, kernels_per_tile=2, routing="trees", dense_values=64, select_rows=16
    )
    second = EngineConfig(lanes=13, tiles=4, kernels_per_tile=16, list_entries=64, whole_rows=64)
    return CoreConfig(engines=(first, second))


def image(network: Network, core: CoreConfig) -> bytes:
    placement = place(network, core)
    return assemble(placement, schedule(placement), KernelConfig(core=core))


def with_less(core: CoreConfig, number: int, name: str) -> CoreConfig:
    engine = core.engines[number]
    less = replace(engine, **{name: getattr(engine, name) // 2})
    return replace(core, engines=(*core.engines[:number], less, *core.engines[number + 1 :]))


def test_memories_are_made_larger_where_they_must(network: Network, core: CoreConfig) -> None:
    everything = dense(network)
    with pytest.raises(CompileError):
        place(everything, core)
    made = with_memories_for(core, everything)
    assert (
        schedule(place(everything, made)).period == schedule(place(everything, roomy(core))).period
    )
    assert made.engines[0].weight_rows < roomy(core).engines[0].weight_rows
    for name in ARRAYS:
        assert getattr(made.engines[0], name) == getattr(core.engines[0], name)
    for name in ("weight_rows", "slot_rows", "list_entries", "reorder_rows"):
        assert getattr(made.engines[0], name) >= getattr(core.engines[0], name)


def test_the_first_engine_may_be_given_lists() -> None:
    """Or a dense network would be made slower than the arrays could run it."""
    assert roomy(chain()).engines[0].list_entries
    assert not roomy(chain(), new_lists=False).engines[0].list_entries
    assert not roomy(chain()).engines[1].dense_values


def test_smallest_memories_hold_nothing_up(network: Network) -> None:
    core = chain()
    made, program = smallest_memories(core, network)
    assert program.period <= schedule(place(network, roomy(core))).period
    assert program.period == schedule(place(network, made)).period
    image(network, made)  # sums are wide enough
    for before, after in zip(core.engines, made.engines, strict=True):
        assert [getattr(before, name) for name in ARRAYS] == [
            getattr(after, name) for name in ARRAYS
        ]
    assert not made.engines[0].list_entries


@pytest.mark.parametrize("name", POWERS_OF_TWO)
def test_less_of_a_memory_would_hold_something_up(name: str, network: Network) -> None:
    made, program = smallest_memories(chain(), network)
    seen = 0
    for number, engine in enumerate(made.engines):
        floor = {"queue_beats": 8, "list_entries": 1}[name]
        if getattr(engine, name) <= floor:
            continue
        try:
            period = schedule(place(network, with_less(made, number, name))).period
        except (CompileError, ValueError):
            period = float("inf")
        assert period > program.period
        seen += 1
    assert seen


def test_sums_hold_weights_that_are_trained_again(network: Network) -> None:
    made, _ = smallest_memories(chain(), network)
    layers = (
        replace(layer, weights=layer.weights.with_values(np.full(layer.weights.nonzeros, -128)))
        for layer in network.layers
    )
    image(replace(network, layers=tuple(layers)), made)
    narrow = tuple(replace(engine, sum_bits=18) for engine in made.engines)
    with pytest.raises(CompileError, match="more than the 18 bits"):
        image(network, replace(made, engines=narrow))


def test_shallow_weights_are_held_in_luts(network: Network) -> None:
    made, _ = smallest_memories(chain(), network)
    styles = [(engine.weight_rows <= 64, engine.weight_memory) for engine in made.engines]
    assert styles == [(True, "distributed"), (False, "block")]


def test_every_field_is_either_kept_or_fitted() -> None:
    """A new field of an engine must be thought of here."""
    fitted = {
        "sum_bits", "dense_values", "list_entries", "weight_rows", "weight_memory", "slot_rows",
        "queue_beats", "requantise_rows", "reorder_rows", "tables", "layers",
    }  # fmt: skip
    assert {field.name for field in fields(EngineConfig)} == {*ARRAYS, *fitted}
