"""Placing, scheduling and assembling: whatever the hardware, the image computes the network."""

import math
from typing import Any

import numpy as np
import pytest
from fixtures.small_networks import board, convolutions, map_output, relu_network

from trencadis_compiler.compile import Compiled, compile_model, import_model
from trencadis_compiler.emit.assemble import assemble
from trencadis_compiler.errors import CompileError
from trencadis_compiler.exact.ranges import reachable_sums
from trencadis_compiler.exact.reference import layer_sums
from trencadis_compiler.mapping.deal import Reading
from trencadis_compiler.mapping.place import place
from trencadis_compiler.segments.segment import compile_network
from trencadis_compiler.segments.summary import make_report
from trencadis_format.compiled import load_overlay
from trencadis_format.layer_tables import PROGRAM, Emission
from trencadis_format.tensors import pack_inputs, unpack_outputs
from trencadis_host.devices.emulator.device import Emulator

KERNELS: dict[str, dict[str, Any]] = {
    "sim": {},
    "one group": {"groups": 1},
    "few lanes": {"lanes": 3, "groups": 1, "tiles": 4, "weight_rows": 8192, "slot_rows": 128},
    "many requantisers": {"requantisers": 16},
    "trees": {"routing": "trees", "groups": 1, "kernels_per_tile": 8, "tiles": 4},
    "split trees": {"routing": "split-trees", "groups": 1, "kernels_per_tile": 8, "tiles": 4},
    "few kernels": {"kernels_per_tile": 2},
}


NETWORKS = [convolutions, relu_network, map_output]


def inputs(samples: int = 6) -> Any:
    return np.random.default_rng(5).normal(0, 3, (samples, 2, 8, 8)).astype(np.float32)


def emulated(compiled: Compiled, array: Any) -> Any:
    overlay = compiled.overlay
    samples, _ = Emulator(overlay).run(pack_inputs(overlay, array))
    return unpack_outputs(overlay, samples)


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
    compiled.save(tmp_path / "net.tcd")
    assert load_overlay(tmp_path / "net.tcd") == compiled.overlay


def test_compiling_is_deterministic(writer) -> None:
    path = convolutions(writer())
    assert compile_model(path, board({})).overlay == compile_model(path, board({})).overlay


def test_progress_is_told(writer) -> None:
    steps: list[str] = []
    compile_model(map_output(writer()), board({}), progress=steps.append)
    assert (steps[0], steps[-1]) == ("reading the model", "assembling the image")
    assert {"packing 6 kernels of 18 weights", "packing 5 kernels of 6 weights"} <= set(steps)


def test_sums_stay_within_their_bounds(writer) -> None:
    compiled = compile_model(convolutions(writer()), board({}))
    rng = np.random.default_rng(0)
    for placed in compiled.placement.layers:
        plan, layer = placed.plan, placed.layer
        least, most = reachable_sums(layer, plan.feed.survivors)
        keys = rng.choice([0, 255, layer.input.zero_key], (40, *layer.in_shape))
        if plan.feed.exact and not plan.feed.dense:
            order = rng.random(keys.shape).argsort(axis=1)
            keys = np.where(order < plan.feed.entries, keys, layer.input.zero_key)
        sums = layer_sums(layer, keys.astype(np.int64))
        assert np.all(least <= sums.min(axis=(0, 2, 3)))
        assert np.all(sums.max(axis=(0, 2, 3)) <= most)


def test_sums_that_may_overflow_are_refused(writer) -> None:
    w = writer(shape=(2000,))
    weights = np.full((2000, 4), 127)
    path = w.save(w.quantised(w.node("MatMul", w.quantised("x"), w.integers(weights)), 8.0), 4)
    # As a map of two positions, for lists of channels are limited.
    with pytest.raises(CompileError):
        compile_network(
            import_model(path), board({"weight_rows": 1 << 16, "sum_bits": 18}), density={}
        )
    w = writer(shape=(500,))
    weights = np.full((500, 4), 127)
    path = w.save(w.quantised(w.node("MatMul", w.quantised("x"), w.integers(weights)), 8.0), 4)
    with pytest.raises(
        CompileError,
        match=r"layer 'MatMul3', channel 0: sums may reach -8128000\.\.8064500, more than the 22 "
        "bits of the accumulators; choose a board with wider sums, ",
    ):
        compile_network(import_model(path), board({"sum_bits": 22}), density={})
    compile_model(path, board({"sum_bits": 24}))


@pytest.mark.parametrize("zero", [3, 4])
def test_powers_of_two_are_scales_like_others(writer, zero) -> None:
    w = writer()
    y = w.node("Conv", w.quantised("x"), w.integers(w.sparse(4, 2, 3, 3)))
    assert compile_model(w.save(w.quantised(y, 2**-3, zero), 4, 6, 6), board({})).overlay.image


def network_of(writer: Any) -> Any:
    return import_model(convolutions(writer()))


def test_plans_cover_every_weight(writer) -> None:
    core = board({}).kernel.core
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
    assert (plan.packing.depth, plan.tile_rounds) == (1, 1)
    assert (plan.paired, plan.slots) == (paired, slots)
    assert plan.cycles == plan.steps * slots * channels
    assert plan.steps == math.prod(plan.layer.out_shape[1:]) * math.prod(pool) // (1 + paired)
    array = np.random.default_rng(5).normal(0, 3, (6, channels, 8, 8)).astype(np.float32)
    expected = reference_outputs(compiled.network, array)
    assert np.array_equal(emulated(compiled, array), expected)
    assert len(np.unique(expected)) > 15


def test_the_first_layer_is_dense_and_others_read_lists(writer) -> None:
    core = board({}).kernel.core
    layers = place(network_of(writer), core).layers
    assert layers[0].plan.reading is Reading.DENSE
    assert all(placed.plan.reading is not Reading.DENSE for placed in layers[1:])
    assert [placed.feed.exact for placed in layers] == [True, True, False, True]
    assert layers[1].source.emission is Emission.LISTS
    assert layers[2].source.emission is not Emission.LISTS


def test_memories_do_not_overlap(writer) -> None:
    core = board({}).kernel.core
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
    core = board(changes).kernel.core
    with pytest.raises(CompileError, match=message):
        place(network_of(writer), core)


def test_tables_are_limited(writer) -> None:
    with pytest.raises(
        CompileError, match="needs 1 activation tables on engine 0, of which 0 of 0"
    ):
        compile_network(import_model(relu_network(writer())), board({"tables": 0}), density={})


def test_what_fits_no_field_is_one_line(writer, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_model(convolutions(writer()), board({}))

    def blocks(*arguments: Any) -> Any:
        return [PROGRAM.pack(layers=99, depth=0, in_map=0)]

    monkeypatch.setattr("trencadis_compiler.emit.assemble.region_blocks", blocks)
    with pytest.raises(CompileError, match=r"^PROGRAM\.layers .*, not 99, by the hardware.*; use "):
        assemble(compiled.placement, compiled.schedule, board({}).kernel)


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
        (True, 8, "88% of its weights are zero, but its dense input takes a cycle per value"),
    ],
    ids=["colliding", "few", "one per cycle"],
)
def test_zeros_without_effect_get_a_hint(writer, own_row, kernels, hint) -> None:
    rows = np.arange(8)
    mine = np.arange(32)[:, None] % 8 if own_row else np.zeros((32, 1), int)
    engine = board({"kernels_per_tile": kernels, "tiles": 4, "requantisers": 4, "lanes": 8})
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
