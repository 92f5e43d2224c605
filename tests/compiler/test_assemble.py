"""Placing, scheduling and assembling: whatever the hardware, the image computes the network."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trencadis_boards import load_board
from trencadis_compiler.assemble import reachable_sums
from trencadis_compiler.compile import Compiled, compile_model, import_model
from trencadis_compiler.errors import CompileError
from trencadis_compiler.place import place
from trencadis_compiler.plan import Reading
from trencadis_compiler.reference import layer_sums
from trencadis_compiler.report import make_report
from trencadis_compiler.schedule import schedule
from trencadis_host.packing import pack_inputs, unpack_outputs
from trencadis_hw import abi
from trencadis_hw.config import KernelConfig
from trencadis_sim.emulator import Emulator

ENGINE = load_board("sim").kernel["core"]["engines"][0]

KERNELS: dict[str, dict[str, Any]] = {
    "sim": {},
    "one group": {"groups": 1},
    "few lanes": {"lanes": 3, "groups": 1, "tiles": 4, "weight_rows": 8192, "slot_rows": 128},
    "many requantisers": {"requantisers": 16},
    "trees": {"routing": "trees", "groups": 1, "kernels": 8, "tiles": 4},
    "split trees": {"routing": "split-trees", "groups": 1, "kernels": 8, "tiles": 4},
    "few kernels": {"kernels": 2},
}


def board(*engines: dict[str, Any], **kernel: Any) -> Any:
    base = load_board("sim")
    core = {"words": 1, "engines": [{**ENGINE, **changes} for changes in engines]}
    return replace(base, kernel={**base.kernel, "core": core, **kernel})


def winners(w: Any, value: str, k: int, scale: float, *, exact: bool = True) -> str:
    values, indices = w.top_k(value, k, axis=1)
    if exact:
        zeros = w.node("ConstantOfShape", w.node("Shape", value))
        y = w.node("ScatterElements", zeros, indices, values, axis=1)
    else:
        numbers = (w.constant([number], np.int64) for number in (-1, 2**31, 1, 1))
        mask = w.node("GreaterOrEqual", value, w.node("Slice", values, *numbers))
        y = w.node("Where", mask, value, w.constant(0, np.float32))
    return w.quantised(y, scale, -128)


def convolutions(w: Any) -> Any:
    y = w.node("Conv", w.quantised("x", 2**-4, 5), w.integers(w.sparse(12, 2, 3, 3, density=0.3)))
    y = w.node("MaxPool", w.node("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = winners(w, w.quantised(y, 2**-3, -128), 3, 2**-3)
    y = w.node("Conv", y, w.integers(w.sparse(10, 12, 3, 3, density=0.1)), pads=[1, 0, 1, 2])
    y = winners(w, w.quantised(y, 2**-3, -128), 4, 2**-3, exact=False)
    y = w.node("Gemm", w.node("Flatten", y), w.integers(w.sparse(90, 40, density=0.1)))
    y = winners(w, w.quantised(y, 2**-3, -128), 9, 2**-3)
    y = w.node("Gemm", y, w.integers(w.sparse(40, 7, density=1)))
    return w.save(w.quantised(y, 2**-2), 7)


def relu_network(w: Any) -> Any:
    y = w.node(
        "Conv", w.quantised("x"), w.integers(w.sparse(9, 2, 2, 2, density=0.5)), dilations=[2, 3]
    )
    y = w.quantised(y, 2**-3, 20)
    y = w.quantised(w.node("Sigmoid", y), 2**-8, -128)
    y = w.node("Conv", y, w.integers(w.sparse(5, 9, 3, 2, density=0.4)), strides=[2, 1])
    y = w.quantised(w.node("Relu", y), 2**-5, -128)
    y = w.node("Flatten", y)
    y = w.node("Gemm", y, w.integers(w.sparse(40, 6, density=0.5)))
    return w.save(y, 6)


def map_output(w: Any) -> Any:
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(6, 2, 3, 3, density=0.4)))
    y = w.quantised(w.node("Relu", y), 2**-3, -128)
    y = w.node("Conv", y, w.integers(w.sparse(5, 6, 1, 1, density=0.6)))
    return w.save(w.quantised(y, 2**-2, 4), 5, 6, 6)


NETWORKS = [convolutions, relu_network, map_output]


def inputs(words: int = 6) -> Any:
    return np.random.default_rng(5).normal(0, 3, (words, 2, 8, 8)).astype(np.float32)


def emulated(compiled: Compiled, array: Any) -> Any:
    overlay = compiled.overlay
    words, _ = Emulator(overlay).run(pack_inputs(overlay, array))
    return unpack_outputs(overlay, words)


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("name", KERNELS)
def test_the_image_computes_the_network(writer, reference_outputs, build, name) -> None:
    path = build(writer())
    compiled = compile_model(path, board(KERNELS[name]))
    expected = reference_outputs(compiled.network, inputs())
    assert np.array_equal(emulated(compiled, inputs()), expected)
    assert len(np.unique(expected)) > 15


@pytest.mark.parametrize("engines", [2, 3])
def test_chains_of_engines(writer, reference_outputs, engines) -> None:
    path = convolutions(writer())
    compiled = compile_model(path, board(*[{}] * engines))
    used = [placed.engine for placed in compiled.placement.layers]
    assert used == sorted(used)
    assert set(used) == set(range(engines))
    assert np.array_equal(
        emulated(compiled, inputs()), reference_outputs(compiled.network, inputs())
    )


@pytest.mark.parametrize("bus_bits", [64, 128, 512])
def test_bus_widths(writer, reference_outputs, bus_bits) -> None:
    compiled = compile_model(convolutions(writer()), board({}, bus_bits=bus_bits))
    assert compiled.overlay.input_bytes % (bus_bits // 8) == 0
    assert np.array_equal(
        emulated(compiled, inputs()), reference_outputs(compiled.network, inputs())
    )


def test_a_compiled_image_can_be_saved_and_loaded(writer, tmp_path) -> None:
    compiled = compile_model(convolutions(writer()), board({}))
    compiled.overlay.save(tmp_path / "net.tcd")
    assert type(compiled.overlay).load(tmp_path / "net.tcd") == compiled.overlay


def test_compiling_is_deterministic(writer) -> None:
    path = convolutions(writer())
    assert compile_model(path, board({})).overlay == compile_model(path, board({})).overlay


def test_progress_is_told(writer) -> None:
    steps: list[str] = []
    compile_model(map_output(writer()), board({}), progress=steps.append)
    assert steps == [
        "reading the model",
        "packing kernels into tiles",
        "scheduling",
        "assembling the image",
    ]


# --- sums ----------------------------------------------------------------------------------------


def test_sums_stay_within_their_bounds(writer) -> None:
    compiled = compile_model(convolutions(writer()), board({}))
    rng = np.random.default_rng(0)
    for placed in compiled.placement.layers:
        plan, layer = placed.plan, placed.plan.layer
        bounds = [reachable_sums(plan, channel) for channel in range(layer.weights.shape[0])]
        keys = rng.choice([0, 255, layer.input.zero_key], (40, *layer.in_shape))
        if plan.feed.exact and not plan.feed.dense:
            order = rng.random(keys.shape).argsort(axis=1)
            keys = np.where(order < plan.feed.entries, keys, layer.input.zero_key)
        sums = layer_sums(layer, keys.astype(np.int64))
        for channel, (low, high) in enumerate(bounds):
            assert low <= sums[:, channel].min()
            assert sums[:, channel].max() <= high


def test_sums_that_may_overflow_are_refused(writer) -> None:
    w = writer(shape=(2000,))
    weights = np.full((2000, 4), 127)
    path = w.save(w.quantised(w.node("MatMul", w.quantised("x"), w.integers(weights)), 8.0), 4)
    # As a map of two positions, for lists of channels are limited.
    with pytest.raises(CompileError):
        compile_model(path, board({"weight_rows": 1 << 16}))
    w = writer(shape=(500,))
    weights = np.full((500, 4), 127)
    path = w.save(w.quantised(w.node("MatMul", w.quantised("x"), w.integers(weights)), 8.0), 4)
    with pytest.raises(
        CompileError,
        match=r"layer 'MatMul3', channel 0: sums may reach -8128000\.\.8064500, more than the 22 "
        "bits of the accumulators; choose a board with wider sums, ",
    ):
        compile_model(path, board({"sum_bits": 22}))
    compile_model(path, board({"sum_bits": 24}))


@pytest.mark.parametrize("zero", [3, 4])
def test_powers_of_two_are_scales_like_others(writer, zero) -> None:
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    assert compile_model(w.save(w.quantised(y, 2**-3, zero), 4, 6, 6), board({})).overlay.image


# --- plans ---------------------------------------------------------------------------------------


def network_of(writer: Any) -> Any:
    return import_model(convolutions(writer()))


def test_plans_cover_every_weight(writer) -> None:
    core = KernelConfig.from_dict(dict(board({}).kernel)).core
    for placed in place(network_of(writer), core).layers:
        plan = placed.plan
        kernels = [kernel for tile in plan.packing.tiles for kernel in tile]
        assert sorted(kernels) == list(range(plan.layer.weights.shape[0]))
        units = [unit for lane in plan.lanes for unit in lane if unit is not None]
        positions = math.prod(plan.layer.weights.shape[2:])
        assert {unit.position for unit in units} == set(range(positions))
        assert len(units) == len(set(units)) == positions * plan.packing.depth * plan.parts
        assert 0 < plan.packing_efficiency <= 1
        assert plan.products <= plan.cycles * plan.config.multipliers


def pooled(w: Any, channels: int, pool: tuple[int, int]) -> Any:
    weights = w.integers(w.sparse(12, channels, 3, 3))
    y = w.node("Conv", w.quantised("x", 2**-4, 5), weights, strides=[1, 2], pads=[1, 1, 1, 1])
    y = w.node("MaxPool", y, kernel_shape=list(pool), strides=[1, 1])
    y = w.quantised(w.node("Relu", y), 2**-3, -128)
    weights = w.integers(w.sparse(12 * (9 - pool[0]) * (5 - pool[1]), 4))
    y = w.node("Gemm", w.node("Flatten", y), weights)
    return w.save(w.quantised(y, 2**-2), 4)


@pytest.mark.parametrize(
    ("channels", "pool", "lanes", "slots", "paired"),
    [
        (1, (2, 2), 6, 3, True),
        (1, (3, 2), 2, 9, True),
        # No even columns; several channels; no fewer slots for two windows than for one twice.
        (1, (2, 3), 6, 2, False),
        (2, (2, 2), 6, 2, False),
        (1, (2, 2), 10, 1, False),
    ],
)
def test_windows_of_a_pooling_window_are_paired(
    writer, reference_outputs, channels, pool, lanes, slots, paired
) -> None:
    w = writer(shape=(channels, 8, 8))
    path = pooled(w, channels, pool)
    changes = {"lanes": lanes, "tiles": 16, "requantisers": 32, "slot_rows": 32}
    changes = KERNELS["split trees"] | changes
    compiled = compile_model(path, board(changes))
    plan = compiled.placement.layers[0].plan
    assert (plan.packing.depth, plan.passes) == (1, 1)
    assert (plan.paired, plan.slots) == (paired, slots)
    assert plan.cycles == plan.steps * slots * channels
    assert plan.steps == math.prod(plan.layer.out_shape[1:]) * math.prod(pool) // (1 + paired)
    array = np.random.default_rng(5).normal(0, 3, (6, channels, 8, 8)).astype(np.float32)
    expected = reference_outputs(compiled.network, array)
    assert np.array_equal(emulated(compiled, array), expected)
    assert len(np.unique(expected)) > 15


def test_the_first_layer_is_dense_and_others_read_lists(writer) -> None:
    core = KernelConfig.from_dict(dict(board({}).kernel)).core
    layers = place(network_of(writer), core).layers
    assert layers[0].plan.reading is Reading.DENSE
    assert all(placed.plan.reading is not Reading.DENSE for placed in layers[1:])
    assert [placed.plan.feed.exact for placed in layers] == [True, True, False, True]
    assert layers[1].source.emission is abi.Emission.LISTS
    assert layers[2].source.emission is not abi.Emission.LISTS


def test_memories_do_not_overlap(writer) -> None:
    core = KernelConfig.from_dict(dict(board({}).kernel)).core
    layers = place(network_of(writer), core).layers
    for base, size in (("weight_base", "weight_rows"), ("slot_base", "slots")):
        spans = sorted((getattr(placed, base), getattr(placed.plan, size)) for placed in layers)
        for (start, rows), (following, _) in zip(spans, spans[1:], strict=False):
            assert start + rows <= following
    numbers = [placed.source.number for placed in layers]
    assert sorted(numbers) == list(range(len(layers)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_rows": 4}, "no way of sharing them among 26 lanes fits 4 weight rows"),
        ({"list_entries": 30}, r"list entries on engine 0, of which \d+ of 30 are left"),
        ({"dense_values": 100}, "needs 128 dense input values on engine 0, of which 100 of 100"),
        ({"requantise_rows": 8}, r"requantise rows on engine 0, of which"),
        ({"layers": 3}, "the network has 4 layers, more than the 3 of the overlay's programs"),
        ({"list_entries": 0}, "reads activation lists, which this engine cannot hold"),
        ({"dense_values": 0}, "the first engine of a chain must have a dense input"),
        ({"select_rows": 2, "whole_rows": 0}, "has k-WTA over 12 channels, more than the 8 that"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_named(writer, changes, message) -> None:
    core = KernelConfig.from_dict(dict(board(changes).kernel)).core
    with pytest.raises(CompileError, match=message):
        place(network_of(writer), core)


def test_tables_are_limited(writer) -> None:
    with pytest.raises(
        CompileError, match="needs 1 activation tables on engine 0, of which 0 of 0"
    ):
        compile_model(relu_network(writer()), board({"tables": 0}))


# --- schedules -----------------------------------------------------------------------------------


def test_every_layer_has_a_turn(writer) -> None:
    compiled = compile_model(convolutions(writer()), board({}))
    (engine,) = compiled.schedule.engines
    numbers = [turn.layer.number for turn in engine.turns]
    assert sorted(numbers) == list(range(4))
    delays = {turn.layer.number: turn.delay for turn in engine.turns}
    assert delays[0] == 0
    assert all(0 <= delays[n + 1] - delays[n] <= 1 for n in range(3))
    work = sum(placed.plan.cycles + placed.plan.tail for placed in compiled.placement.layers)
    assert engine.period >= work + engine.waiting
    assert not math.isinf(engine.period)


def test_loading_may_be_what_takes_longest(writer) -> None:
    w = writer(shape=(1, 40, 40))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 1, 2, 2)), strides=[20, 20])
    placement = compile_model(w.save(w.quantised(y), 4, 2, 2), board({})).placement
    assert schedule(placement).period == 1604
    assert schedule(placement).limit == "loading of the input"


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
    fields = {"routing": "split-trees", "groups": 1, "lanes": 2, "kernels": 2, "slot_rows": 200}
    compiled = compile_model(w.save(w.quantised(y), 4, 1, 1), board(fields))
    assert compiled.placement.layers[0].plan.slots == 41


def test_writing_lists_may_be_what_takes_longest(writer) -> None:
    # 4 inputs are multiplied in no time, but of 200 activations every second one is written.
    compiled = compile_model(relu_vectors(writer(shape=(4,)), 4, 200), board({}))
    after = compiled.placement.layers[1]
    lists = 100 + after.plan.parts + 1
    rows = 200 / 4 * 0.5**4 + 8 / 4
    assert after.source.emission is abi.Emission.OWNED
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
    assert compiled.schedule.limit == "writing of activations, one a cycle"


def test_a_map_is_handed_over_when_it_is_written(writer) -> None:
    # The first layer is multiplied in few cycles, but its 64 activations a position are written one
    # a cycle, into the only buffer there is room for.
    w = writer(shape=(1, 12, 12))
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(64, 1, 3, 3)))
    y = w.quantised(w.node("Clip", y, w.constant(2**-3, np.float32)), 2**-3, -128)
    y = w.node("Conv", y, w.integers(w.sparse(4, 64, 3, 3)))
    first = {"lanes": 9, "groups": 1, "tiles": 32, "kernels": 2, "routing": "trees"}
    engines = [first, {"dense_values": 0, "list_entries": 7000}]
    compiled = compile_model(w.save(w.quantised(y, 2**-3), 4, 8, 8), board(*engines))
    before, after = compiled.placement.layers
    assert after.source.buffers == 1
    assert before.plan.cycles < 6400 < 6400 + after.plan.cycles < compiled.schedule.period
    assert compiled.schedule.period < 6400 + after.plan.cycles + 200
    assert compiled.schedule.limit == "handing maps from engine to engine"


def test_waits_that_come_every_second_word_are_averaged(writer) -> None:
    model = relu_vectors(writer(shape=(256,)), 256, 64)
    placement = compile_model(model, load_board("sim"), input_nonzeros=32).placement
    (engine,) = schedule(placement).engines
    work = sum(placed.plan.cycles + placed.plan.tail for placed in placement.layers)
    # Of two words one waits 4 cycles, the other about 127, for the whole pipeline.
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
    emission = abi.Emission.LISTS if full else abi.Emission.TERMINATED
    assert compiled.placement.layers[1].source.emission is emission


# --- reports -------------------------------------------------------------------------------------


def pruned(w: Any, zeros: Any) -> Any:
    """Two fully connected layers, the first of 32 kernels of 8 weights."""
    weights = w.rng.integers(1, 100, (32, 8)).astype(np.int8)
    weights[zeros] = 0
    y = w.node("Relu", w.node("MatMul", w.quantised("x"), w.integers(weights.T)))
    y = w.node("MatMul", w.quantised(y, 2**-3, -128), w.integers(w.sparse(32, 5, density=1)))
    return w.save(y, 5)


@pytest.mark.parametrize(
    ("own_row", "kernels", "hint"),
    [
        (False, 8, "weights are zero, but its tiles are 12% full: no two of its kernels fit"),
        (True, 2, "weights are zero, but its tiles are 25% full: engine 0 of the board"),
        (True, 8, "88% of its weights are zero, but its dense input takes a cycle a value"),
    ],
    ids=["colliding", "few", "one a cycle"],
)
def test_zeros_without_effect_get_a_hint(writer, own_row, kernels, hint) -> None:
    rows = np.arange(8)
    mine = np.arange(32)[:, None] % 8 if own_row else np.zeros((32, 1), int)
    engine = board({"kernels": kernels, "tiles": 4, "requantisers": 4, "lanes": 8})
    report = compile_model(pruned(writer(shape=(8,)), rows != mine), engine).overlay.report
    (found,) = report["hints"]
    assert hint in found


def test_the_report_adds_up(writer) -> None:
    base = board({})
    compiled = compile_model(convolutions(writer()), base)
    report = compiled.overlay.report
    kernel = compiled.overlay.kernel
    layers = report["layers"]
    assert report["nonzero_weights"] == sum(layer["nonzeros"] for layer in layers)
    assert report["weights"] == sum(layer.weights.size for layer in compiled.network.layers)
    assert report["image_bytes"] == len(compiled.overlay.image)
    assert report["cycles_per_word"] == compiled.schedule.period
    assert report["limited_by"] == compiled.schedule.limit
    names = [layer["name"] for layer in report["layers"]]
    assert report["limited_by"] == f"engine 0 ({', '.join(names)})"
    conv = layers[0]
    assert conv["dense_products"] == 36 * 12 * 18
    assert conv["useful_products"] == 36 * conv["nonzeros"]
    assert conv["output_shape"] == [12, 3, 3]
    assert (layers[1]["input_entries"], layers[1]["input_channels"]) == (3, 12)
    use = report["useful_products"] / (report["cycles_per_word"] * 208)
    assert report["multiplier_use"] == use
    again = make_report(
        compiled.placement, compiled.schedule, kernel, base, report["image_bytes"], profiled=True
    )
    assert again["cycles_are"].endswith("estimated from the profile given")
