import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig

MakeEngine = Callable[..., EngineConfig]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 0}, "EngineConfig.lanes must be an integer in 1..255, not 0"),
        ({"lanes": 2.5}, "EngineConfig.lanes must be an integer in 1..255, not 2.5"),
        ({"lanes": 256}, "EngineConfig.lanes must be an integer in 1..255, not 256"),
        ({"tiles": 1}, "EngineConfig.tiles must be an integer in 2..64, not 1"),
        ({"tiles": 3}, "EngineConfig.tiles must be even, not 3"),
        (
            {"kernels_per_tile": 0},
            "EngineConfig.kernels_per_tile must be an integer in 1..64, not 0",
        ),
        (
            {"kernels_per_tile": 65},
            "EngineConfig.kernels_per_tile must be an integer in 1..64, not 65",
        ),
        ({"groups": 3}, "EngineConfig.groups must be at most the 2 lanes, not 3"),
        ({"lanes": 4, "groups": 3}, "EngineConfig.groups must be a divisor of 4 lanes, not 3"),
        (
            {"routing": "x"},
            "EngineConfig.routing must be banked, trees or split-trees, not 'x'",
        ),
        (
            {"routing": "split-trees", "lanes": 3},
            "EngineConfig.lanes must be even with split-tree routing, not 3",
        ),
        (
            {"groups": 2, "routing": "trees"},
            "EngineConfig.groups must be 1 with adder-tree routing, not 2",
        ),
        ({"sum_bits": 17}, "EngineConfig.sum_bits must be an integer in 18..32, not 17"),
        ({"dense_values": -1}, "EngineConfig.dense_values must be an integer in 0..65536, not -1"),
        (
            {"list_entries": 16385},
            "EngineConfig.list_entries must be an integer in 0..16384, not 16385",
        ),
        ({"weight_rows": 3}, "EngineConfig.weight_rows must be an integer in 4..65536, not 3"),
        (
            {"weight_memory": "x"},
            "EngineConfig.weight_memory must be block, ultra or distributed, not 'x'",
        ),
        ({"slot_rows": 0}, "EngineConfig.slot_rows must be an integer in 1..256, not 0"),
        (
            {"queue_beats": 7},
            "EngineConfig.queue_beats must be at least twice the 4 beats of a step, not 7",
        ),
        ({"requantisers": 33}, "EngineConfig.requantisers must be an integer in 1..32, not 33"),
        (
            {"requantisers": 4},
            "EngineConfig.requantisers must be a power of two that divides 2 columns, not 4",
        ),
        (
            {"tiles": 6, "requantisers": 3},
            "EngineConfig.requantisers must be a power of two that divides 6 columns, not 3",
        ),
        (
            {"requantise_rows": 0},
            "EngineConfig.requantise_rows must be an integer in 1..65536, not 0",
        ),
        ({"reorder_rows": 24}, "EngineConfig.reorder_rows must be a power of two, not 24"),
        (
            {"reorder_rows": 4},
            "EngineConfig.reorder_rows must be at least twice the 4 rows of select_rows, not 4",
        ),
        ({"reorder_rows": 8192}, "EngineConfig.reorder_rows must be an integer in 2..4096"),
        ({"select_rows": -1}, "EngineConfig.select_rows must be an integer in 0..256, not -1"),
        ({"whole_rows": -1}, "EngineConfig.whole_rows must be an integer in 0..4096, not -1"),
        ({"tables": 17}, "EngineConfig.tables must be an integer in 0..16, not 17"),
        ({"layers": 17}, "EngineConfig.layers must be an integer in 1..16, not 17"),
        (
            {"dense_values": 0, "list_entries": 0},
            "EngineConfig.dense_values and list_entries must be positive in one of the two, not 0",
        ),
    ],
)
def test_engine_refuses(engine: MakeEngine, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        engine(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engines": ()}, "CoreConfig.engines must be a tuple of 1 to 4 engines, not ()"),
        ({"engines": []}, "CoreConfig.engines must be a tuple of 1 to 4 engines, not []"),
        ({"batch_lanes": 3}, "CoreConfig.batch_lanes must be an integer in 1..2, not 3"),
    ],
)
def test_core_refuses(engine: MakeEngine, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CoreConfig(**{"engines": (engine(),), **changes})


@pytest.mark.parametrize(
    ("value", "fields", "message"),
    [
        (1, {}, "CoreConfig.sparse_input must be true or false, not 1"),
        (
            True,
            {"list_entries": 0},
            (
                "CoreConfig.sparse_input must be false, or the first engine's list_entries "
                "positive, not True"
            ),
        ),
    ],
)
def test_sparse_input_needs_lists(
    engine: MakeEngine, value: Any, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        CoreConfig(engines=(engine(**fields),), sparse_input=value)


def test_only_the_first_engine_reads_the_input(engine: MakeEngine) -> None:
    message = "engine 1's list_entries must be positive, it reads lists, not 0"
    with pytest.raises(ValueError, match=f"^{message}$"):
        CoreConfig(engines=(engine(), engine(list_entries=0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cores": 0}, "KernelConfig.cores must be an integer in 1..64, not 0"),
        ({"bus_bits": 32}, "KernelConfig.bus_bits must be 64, 128, 256 or 512, not 32"),
        ({"input_beats": 1}, "KernelConfig.input_beats must be an integer in 2..4096, not 1"),
        ({"output_beats": 1}, "KernelConfig.output_beats must be an integer in 2..4096, not 1"),
    ],
)
def test_kernel_refuses(engine: MakeEngine, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        KernelConfig(core=CoreConfig(engines=(engine(),)), **changes)


@pytest.fixture
def kernel(engine: MakeEngine) -> KernelConfig:
    engines = (engine(), engine(dense_values=0, routing="trees", requantisers=4))
    return KernelConfig(core=CoreConfig(engines=engines, batch_lanes=2), cores=3, bus_bits=128)


def test_derived_numbers(engine: MakeEngine, kernel: KernelConfig) -> None:
    banked = engine(lanes=6, tiles=4, kernels_per_tile=5, groups=2)
    assert (banked.columns, banked.beats, banked.kernel_bits, banked.group_lanes) == (8, 5, 3, 3)
    trees = engine(tiles=4, kernels_per_tile=5, routing="trees")
    assert (trees.columns, trees.beats, trees.multipliers) == (20, 1, 8)
    assert engine(kernels_per_tile=1).kernel_bits == 1
    assert banked.weight_bits == 2 * (8 + 9) + 4 * 3
    assert kernel.core.multipliers == 2 * (2 * 2 + 2 * 2)
    assert kernel.multipliers == 3 * kernel.core.multipliers
    assert kernel.bus_bytes == 16


def test_frozen(kernel: KernelConfig) -> None:
    with pytest.raises(FrozenInstanceError):
        kernel.cores = 4  # pyright: ignore[reportAttributeAccessIssue]


def test_dict_and_back(kernel: KernelConfig) -> None:
    again = KernelConfig.from_dict(kernel.to_dict())
    assert again == kernel
    assert again.digest == kernel.digest


def test_digest_depends_on_every_field(kernel: KernelConfig, engine: MakeEngine) -> None:
    first = kernel.core.engines[0]
    changes: dict[str, Any] = {name: getattr(first, name) * 2 for name in ("lanes", "tiles")}
    changes |= {"weight_memory": "ultra", "sum_bits": 25, "tables": 1, "whole_rows": 4}
    changes |= {"requantise_rows": 17, "layers": 5, "slot_rows": 17, "queue_beats": 20}
    others = [
        replace(
            kernel,
            core=replace(kernel.core, engines=(replace(first, **{name: value}),)),
        )
        for name, value in changes.items()
    ]
    others += [replace(kernel, cores=4), replace(kernel, bus_bits=64), kernel]
    digests = {other.digest for other in others}
    assert len(digests) == len(others)
    assert all(0 <= digest < 1 << 64 for digest in digests)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "core must be a table, not None"),
        ([], "kernel must be a table, not []"),
        ({"core": {}}, "core.engines must be a list of tables, not None"),
        ({"core": {"engines": {"lanes": 1}}}, "core.engines must be a list of tables, not {"),
        ({"core": {"engines": ["lanes"]}}, "core.engines[0] must be a table, not 'lanes'"),
        ({"core": {"engines": [{"lanes": 1}]}}, "EngineConfig.tiles is missing"),
        ({"core": {"engines": [{"speed": 1}]}}, "EngineConfig has no field speed"),
        ({"core": []}, "core must be a table, not []"),
    ],
)
def test_foreign_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        KernelConfig.from_dict(data)
