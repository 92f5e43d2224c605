from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.map_programs import map_kernel, random_map_overlay

from trencadis_format.config import CoreConfig, EngineConfig, KernelConfig
from trencadis_format.image import Target, pack_blocks, unpack_blocks
from trencadis_format.map_check import check_map_program
from trencadis_format.map_config import MapConfig
from trencadis_format.map_tables import MAP_LAYER
from trencadis_format.overlay import Overlay

KERNEL = map_kernel(weight_rows=4096, requantise_rows=512)


def check(overlay: Overlay, cycles: float = 1e9) -> None:
    form = overlay.output
    check_map_program(
        overlay.image,
        overlay.kernel,
        positions=overlay.input.rows * overlay.input.columns,
        channels=overlay.input.channels,
        output_bytes=form.pieces * form.piece_bytes,
        cycles_per_inference=cycles,
    )


def changed(overlay: Overlay, change: Callable[[dict[str, int]], None]) -> Overlay:
    """The overlay with another first layer."""
    blocks = []
    for block in unpack_blocks(overlay.image):
        if block.target == Target.MAP_LAYER:
            first = MAP_LAYER.unpack(block.rows[0] & ((1 << MAP_LAYER.bits) - 1))
            change(first)
            block = replace(block, rows=[MAP_LAYER.pack(**first), *block.rows[1:]])
        blocks.append(block)
    return replace(overlay, image=pack_blocks(blocks))


def test_random_programs_are_accepted() -> None:
    for seed in range(20):
        overlay = random_map_overlay(KERNEL, seed)
        overlay.check()
        check(overlay)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"origin": 5000}, "what it reads is in rows"),
        ({"out_base": 4095, "out_step": 4000}, "what it writes is in rows"),
        ({"out_step": 0}, "it writes a row twice"),
        ({"out_base": 0}, "it writes rows that it reads"),
        ({"weight_base": 4095}, "its weights is in rows"),
        ({"requantise_base": 511}, "its parameters is in rows"),
        ({"beats": 63}, "64 kernels per tile"),
        ({"step_rows": 15, "out_step": 40}, "beats do not make 16 rows"),
        ({"depth": 40}, "its weight rows are not those of its values"),
        ({"use_table": 1, "table": 9}, "it looks up table 9 of 2"),
        ({"add": 1, "second_base": 5000}, "its second map is in rows"),
        ({"add": 1, "second_base": "out"}, "it writes rows that it reads"),
        ({"out_h": 1023, "out_w": 1023, "kernel_h": 255}, "reads more than"),
    ],
)
def test_a_layer_that_leaves_its_memories_is_refused(fields: dict[str, int], rule: str) -> None:
    overlay = random_map_overlay(KERNEL, 8, layers=1)

    def change(first: dict[str, int]) -> None:
        first |= {"raw": 0, "step_rows": 0, "beats": KERNEL.core.map.row_beats - 1}  # type: ignore[union-attr]
        for name, value in fields.items():
            first[name] = first["out_base"] if value == "out" else value

    with pytest.raises(ValueError, match=f"layer 0: .*{rule}"):
        check(changed(overlay, change))


def test_a_program_that_takes_much_longer_than_reported_is_refused() -> None:
    with pytest.raises(ValueError, match="its report tells 1"):
        check(random_map_overlay(KERNEL, 9), cycles=1)


def test_blocks_of_list_engines_are_refused() -> None:
    overlay = random_map_overlay(KERNEL, 9)
    blocks = list(unpack_blocks(overlay.image))
    blocks.insert(2, replace(blocks[2], target=Target.SEQUENCE))
    with pytest.raises(ValueError, match="engines of this kind have no such memory"):
        replace(overlay, image=pack_blocks(blocks)).check()


def test_a_core_has_one_kind_of_engine() -> None:
    engine = EngineConfig(lanes=4, tiles=4, kernels_per_tile=2, list_entries=16)
    maps = MapConfig(lanes=4, tiles=4, kernels_per_tile=4, row_values=8)
    with pytest.raises(ValueError, match="beside a map engine"):
        CoreConfig(engines=(engine,), map=maps)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"row_values": 12}, "a power of two"),
        ({"lanes": 3}, "a multiple of the 3 lanes"),
        ({"tiles": 3}, "even"),
        ({"kernels_per_tile": 3, "tiles": 4}, "a multiple of the 2 beats of a row"),
        ({"map_rows": 0}, "an integer in"),
        ({"weight_memory": "paper"}, "block, ultra or distributed"),
    ],
)
def test_a_map_engine_that_does_not_fit_together_is_refused(
    fields: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        MapConfig(**{"lanes": 4, "tiles": 4, "kernels_per_tile": 4, "row_values": 8, **fields})


def test_a_configuration_survives_its_table() -> None:
    table = KERNEL.to_dict()
    assert "engines" not in table["core"]
    assert KernelConfig.from_dict(table) == KERNEL
