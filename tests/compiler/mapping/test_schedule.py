"""Schedules: every layer has its turn, and what holds an engine up is counted."""

import math
from typing import Any

import numpy as np
import pytest
from fixtures.small_networks import board, convolutions, winners

from trencadis_boards import load_board
from trencadis_compiler.compile import compile_model
from trencadis_compiler.mapping.schedule import schedule
from trencadis_format.layer_tables import Emission


def test_every_layer_has_a_turn(writer) -> None:
    compiled = compile_model(convolutions(writer()), board({}))
    (engine,) = compiled.schedule.engines
    numbers = [turn.placed.number for turn in engine.turns]
    assert sorted(numbers) == list(range(4))
    delays = {turn.placed.number: turn.delay for turn in engine.turns}
    assert delays[0] == 0
    assert all(0 <= delays[n + 1] - delays[n] <= 1 for n in range(3))
    work = sum(placed.plan.cycles + placed.plan.tail for placed in compiled.placement.layers)
    assert engine.period >= work + engine.waiting
    assert not math.isinf(engine.period)


def test_loading_may_be_what_takes_longest(writer) -> None:
    w = writer(shape=(1, 40, 40))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 1, 2, 2)), strides=[20, 20])
    placement = compile_model(w.save(w.quantised(y), 4, 2, 2), board({})).placement
    assert schedule(placement).period == 1631
    assert schedule(placement).limit == "loading of the input between its uses"


def relu_vectors(w: Any, inputs: int, hidden: int) -> Any:
    y = w.node("Gemm", w.quantised("x"), w.integers(w.sparse(inputs, hidden, density=0.1)))
    y = w.quantised(w.node("Relu", y), 2**-3, -128)
    y = w.node("Gemm", y, w.integers(w.sparse(hidden, 8, density=0.3)))
    return w.save(w.quantised(y, 2**-3), 8)


def test_what_cannot_follow_the_array_makes_nothing_static(writer) -> None:
    # 64 activations of every position are written in 64 cycles, and computed in few.
    w = writer(shape=(1, 12, 12))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(64, 1, 3, 3)))
    y = w.quantised(w.node("Clip", y, w.constant(2**-3, np.float32)), 2**-3, -128)
    y = w.node("Conv", y, w.integers(w.sparse(4, 64, 3, 3)))
    fields = {"requantisers": 16, "list_entries": 1 << 14}
    compiled = compile_model(w.save(w.quantised(y, 2**-3), 4, 8, 8), board(fields))
    first, second = (placed.plan for placed in compiled.placement.layers)
    assert first.static
    assert second.static
    assert first.cycles < 100 * 64
    assert compiled.schedule.period > 100 * 64 + second.cycles
    assert not compiled.schedule.static


def test_winners_of_positions_may_need_the_selector_of_whole_layers(writer) -> None:
    w = writer(shape=(1, 9, 8))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(8, 1, 3, 3)))
    y = winners(w, w.quantised(y, 2**-3, -128), 2, 2**-3)
    y = w.node("Conv", y, w.integers(w.sparse(4, 8, 1, 1)))
    model = w.save(w.quantised(y, 2**-3), 4, 7, 6)
    streaming = compile_model(model, board({}))
    whole = compile_model(model, board({"select_rows": 0}))
    assert not whole.schedule.static
    assert whole.schedule.period > 42 * 22 > streaming.schedule.period
    assert streaming.schedule.limit.startswith("engine 0 (")


def test_a_small_reorder_memory_holds_vectors_up(writer) -> None:
    w = writer(shape=(1, 9, 8))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(64, 1, 3, 3)))
    y = winners(w, w.quantised(y, 2**-3, -128), 2, 2**-3)
    y = w.node("Conv", y, w.integers(w.sparse(4, 64, 7, 6)))
    model = w.save(w.quantised(y, 2**-3), 4, 1, 1)
    roomy, tight = (compile_model(model, board({"reorder_rows": rows})) for rows in (512, 32))
    assert roomy.schedule.static
    assert not tight.schedule.static
    assert tight.schedule.period > roomy.schedule.period


def test_steps_of_more_slots_than_the_format_has_are_not_planned(writer) -> None:
    # Two windows of 81 positions take 81 slots of two lanes, one takes 41.
    w = writer(shape=(1, 10, 10))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 1, 9, 9)))
    y = w.node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    fields = {
        "routing": "split-trees",
        "groups": 1,
        "lanes": 2,
        "kernels_per_tile": 2,
        "slot_rows": 200,
    }
    compiled = compile_model(w.save(w.quantised(y), 4, 1, 1), board(fields))
    assert compiled.placement.layers[0].plan.slots == 41


def test_writing_lists_may_be_what_takes_longest(writer) -> None:
    # 4 inputs are multiplied in no time, but of 200 activations every second one is written.
    compiled = compile_model(relu_vectors(writer(shape=(4,)), 4, 200), board({}))
    after = compiled.placement.layers[1]
    lists = 100 + after.plan.parts + 1
    rows = 200 / 4 * 0.5**4 + 8 / 4
    assert after.source.emission is Emission.OWNED
    assert compiled.schedule.period >= lists + rows
    assert compiled.schedule.period == max(lists + rows, compiled.schedule.engines[0].period)
    assert not compiled.schedule.static


def test_memories_take_the_input_and_the_layers_lists_in_turn(writer) -> None:
    model = relu_vectors(writer(shape=(256,)), 256, 16)
    compiled = compile_model(model, load_board("sim"), input_nonzeros=32)
    first, second = (placed.plan for placed in compiled.placement.layers)
    assert compiled.schedule.period == (first.pitch + 1) + (8 + second.parts + 1)
    (engine,) = compiled.schedule.engines
    assert engine.period < compiled.schedule.period
    assert compiled.schedule.limit == "writing of activations, one per cycle"


def test_a_map_is_handed_over_when_it_is_written(writer) -> None:
    # The first layer is multiplied in few cycles, but its 64 activations per position are written
    # one per cycle, into the only buffer there is room for.
    w = writer(shape=(1, 12, 12))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(64, 1, 3, 3)))
    y = w.quantised(w.node("Clip", y, w.constant(2**-3, np.float32)), 2**-3, -128)
    y = w.node("Conv", y, w.integers(w.sparse(4, 64, 3, 3)))
    first = {"lanes": 9, "groups": 1, "tiles": 32, "kernels_per_tile": 2, "routing": "trees"}
    engines = [first, {"dense_values": 0, "list_entries": 7000}]
    compiled = compile_model(w.save(w.quantised(y, 2**-3), 4, 8, 8), board(*engines))
    before, after = compiled.placement.layers
    assert after.source.buffers == 1
    assert before.plan.cycles < 6400 < 6400 + after.plan.cycles < compiled.schedule.period
    assert compiled.schedule.period < 6400 + after.plan.cycles + 200
    assert compiled.schedule.limit == "handing maps from engine to engine"


def test_waits_that_come_every_second_sample_are_averaged(writer) -> None:
    model = relu_vectors(writer(shape=(256,)), 256, 64)
    placement = compile_model(model, load_board("sim"), input_nonzeros=32).placement
    (engine,) = schedule(placement).engines
    work = sum(placed.plan.cycles + placed.plan.tail for placed in placement.layers)
    # Of two samples one waits 4 cycles, the other about 127, for the whole pipeline.
    assert 60 < engine.waiting < 70
    assert engine.period >= work + engine.waiting


def test_the_period_is_static_with_exact_k_alone(writer) -> None:
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3, density=0.3)))
    y = winners(w, w.quantised(y, 2**-3, -128), 3, 2**-3)
    y = w.node("Conv", y, w.integers(w.sparse(10, 12, 3, 3, density=0.5)))
    compiled = compile_model(w.save(w.quantised(y, 2**-3), 10, 4, 4), board({}))
    assert all(placed.plan.static for placed in compiled.placement.layers)
    assert not compile_model(convolutions(writer()), board({})).schedule.static


@pytest.mark.parametrize(
    ("function", "full"),
    [(("Clip", 2**-3), True), (("Clip", 0.0), False), (("Sigmoid",), True), (("Relu",), False)],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_lists_are_full_where_no_activation_can_be_zero(writer, function, full) -> None:
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(12, 2, 3, 3, density=0.3)))
    name, *bounds = function
    if name == "Sigmoid":
        y = w.quantised(y, 2**-5)  # from sigmoid(-4) on
    y = w.node(name, y, *(w.constant(bound, np.float32) for bound in bounds))
    y = w.quantised(y, *((2**-8, -128) if name == "Sigmoid" else (2**-3, -128)))
    y = w.node("Conv", y, w.integers(w.sparse(10, 12, 3, 3, density=0.5)))
    compiled = compile_model(w.save(w.quantised(y, 2**-3), 10, 4, 4), board({"tables": 1}))
    feed = compiled.placement.layers[1].plan.feed
    assert (feed.exact, feed.entries) == (full, 12)
    assert feed.expected == (12 if full else 6)
    emission = Emission.LISTS if full else Emission.TERMINATED
    assert compiled.placement.layers[1].source.emission is emission
