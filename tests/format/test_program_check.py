"""Programs with one field changed, as someone would who mends the digests too."""

import contextlib
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.networks import LayerSpec, NetworkSpec, Pool, k_winners, network

from trencadis_format.image import Target, pack_blocks, unpack_blocks
from trencadis_format.layer_tables import (
    EMIT,
    FEED,
    PROGRAM,
    SELECT,
    SEQUENCE,
    SERIALISE,
    SLOT,
)
from trencadis_format.overlay import Overlay
from trencadis_format.program_check import MapShape, check_program

RECORDS = {
    Target.FEED: FEED,
    Target.PROGRAM: PROGRAM,
    Target.SEQUENCE: SEQUENCE,
    Target.SERIALISE: SERIALISE,
    Target.SELECT: SELECT,
    Target.EMIT: EMIT,
    Target.SLOT: SLOT,
}

WINNERS = network(
    (1, 8, 8),
    LayerSpec(8, (3, 3), padding=(1, 1, 1, 1), pool=Pool((2, 2), (2, 2)), winners=k_winners(2)),
    LayerSpec(6, (2, 2), winners=k_winners(3)),
    LayerSpec(5, None, zero_point=3),
)
SUMS = network((3, 5, 5), LayerSpec(7, (3, 3), table=True), LayerSpec(4, None, raw=True))
LISTS = network((6, 4, 4), LayerSpec(7, (3, 3)), LayerSpec(4, None), input_nonzeros=2)

Make = Callable[..., Any]


def check(overlay: Overlay, image: bytes | None = None, cycles: float = math.inf) -> None:
    source, form = overlay.input, overlay.output
    check_program(
        overlay.image if image is None else image,
        overlay.kernel,
        MapShape(source.rows, source.columns, source.channels),
        MapShape(form.rows, form.columns, form.channels, form.raw),
        cycles,
    )


def changed(image: bytes, target: Target, row: int, engine: int = 0, **fields: int) -> bytes:
    """An image with some fields of a row replaced."""
    record, blocks, found = RECORDS[target], [], False
    for block in unpack_blocks(image):
        rows = list(block.rows)
        here = (block.target, block.engine) == (target, engine)
        if here and block.start <= row < block.start + len(rows):
            values = record.unpack(rows[row - block.start] & ((1 << record.bits) - 1))
            rows[row - block.start] = record.pack(**(values | fields))
            found = True
        blocks.append(replace(block, rows=rows))
    assert found
    return pack_blocks(blocks)


@pytest.mark.parametrize("kernel", ["groups", "trees-lockstep", "split-trees", "cores-chained"])
@pytest.mark.parametrize("spec", [WINNERS, SUMS, LISTS], ids=["winners", "sums", "lists"])
def test_programs_of_the_compiler_are_taken(
    make_case: Make, spec: NetworkSpec, kernel: str
) -> None:
    case = make_case(spec, kernel, samples=1)
    check(case.overlay, cycles=case.schedule.period)


@pytest.mark.parametrize(
    ("target", "row", "fields", "message"),
    [
        (Target.SELECT, 0, {"k": 9}, "layer 0 of engine 0 selects 9 winners among 8 channels"),
        (Target.SELECT, 0, {"k": 0}, "selects 0 winners among 8 channels"),
        (Target.SELECT, 0, {"selection": 3}, "has no selection 3"),
        (Target.FEED, 0, {"in_map": 5}, "samples arrive in map 5 .* waits for them in map"),
        (Target.PROGRAM, 0, {"in_map": 6}, "which waits for them in map 6"),
        (Target.PROGRAM, 0, {"layers": 0}, "program of engine 0 has 0 layers, not 1 to"),
        (Target.PROGRAM, 0, {"layers": 4}, "row 3 of SEQUENCE of engine 0 is missing"),
        (Target.PROGRAM, 0, {"layers": 2}, "layers of engine 0 read map"),
        (Target.SEQUENCE, 1, {"in_map": 7}, "0 layers of engine 0 read map"),
        (Target.SEQUENCE, 1, {"in_map": 0}, "2 layers of engine 0 read map 0|0 layers .* read map"),
        (Target.SEQUENCE, 0, {"out_map": 7}, "writes another map than it waits for"),
        (Target.SEQUENCE, 0, {"destination": 3}, "does not say where its output goes"),
        (Target.SEQUENCE, 0, {"in_buffers": 0}, "reads a map of 0 buffers"),
        (Target.SEQUENCE, 1, {"in_step": 1}, "reads buffers of 1 entries"),
        (Target.SEQUENCE, 0, {"dense": 0}, "takes what the input writes for something else"),
        (Target.SEQUENCE, 1, {"address": 60_000}, "reads entries 6.* of a map from"),
        (Target.SEQUENCE, 1, {"pos_y": -300}, "reads entries -.* of a map from"),
        (Target.SEQUENCE, 0, {"slot_base": 255}, "uses slot rows to 2.* of 64"),
        (Target.SEQUENCE, 0, {"weight_base": 511}, "uses weight rows to .* of 512"),
        (Target.SERIALISE, 0, {"row_base": 127}, "uses requantiser rows to .* of 128"),
        (Target.SERIALISE, 0, {"gather_base": 127}, "uses gather rows to 13.* of 128"),
        (Target.SERIALISE, 0, {"low": 200, "high": 3}, "gives keys from 200 to 3"),
        (Target.SERIALISE, 0, {"use_table": 1, "table": 1}, "uses table 1, which is not in"),
        (Target.SERIALISE, 0, {"raw": 1}, "gives sums to another layer"),
        (Target.SERIALISE, 2, {"last_count": 0, "vector_rows": 0}, "its output is .* its program"),
        (Target.EMIT, 0, {"pitch": 0}, "the lists that layer 0 of engine 0 writes have no entries"),
        (Target.EMIT, 0, {"base": 500}, "ends at 500 .* entries of 512"),
        (Target.EMIT, 2, {"width": 900}, "another number of positions than it writes"),
        (Target.FEED, 0, {"rows": 900}, "its input is .* by its manifest, 901 rows of 8 values"),
        (Target.EMIT, 2, {"emission": 0}, "in another form than its destination takes"),
    ],
)
def test_one_field_that_is_wrong(
    make_case: Make, target: Target, row: int, fields: dict[str, int], message: str
) -> None:
    overlay = make_case(WINNERS, "groups", samples=1).overlay
    with pytest.raises(ValueError, match=message) as error:
        check(overlay, changed(overlay.image, target, row, **fields))
    assert "\n" not in str(error.value)


def test_layers_that_go_round(make_case: Make) -> None:
    overlay = make_case(WINNERS, "groups", samples=1).overlay
    emits = [
        EMIT.unpack(row & ((1 << EMIT.bits) - 1))
        for block in unpack_blocks(overlay.image)
        if block.target == Target.EMIT
        for row in block.rows
    ]
    back = {name: emits[0][name] for name in ("out_map", "buffers")}
    size = {name: emits[1][name] for name in ("width", "height")}
    image = changed(overlay.image, Target.EMIT, 1, **(emits[0] | size))
    image = changed(image, Target.SEQUENCE, 1, out_map=back["out_map"], out_buffers=back["buffers"])
    with pytest.raises(ValueError, match="0 layers of engine 0 read map"):
        check(overlay, image)


def test_walks_without_end(make_case: Make) -> None:
    overlay = make_case(WINNERS, "groups", samples=1).overlay
    image = changed(overlay.image, Target.SEQUENCE, 0, interval=4095, pool_h=15, elem_y=0)
    with pytest.raises(ValueError, match=r"engine 0 takes at least \d+ cycles, its report tells"):
        check(overlay, image, cycles=100)


def mutated(image: bytes, rng: random.Random) -> bytes:
    """An image with one to three random fields of random rows changed."""
    for _ in range(rng.randint(1, 3)):
        blocks = [
            (block.target, block.engine, block.start + i)
            for block in unpack_blocks(image)
            if block.target in RECORDS
            for i in range(len(block.rows))
        ]
        target, engine, row = rng.choice(blocks)
        field = rng.choice(RECORDS[target].fields)
        low = -(1 << (field.bits - 1)) if field.signed else 0
        value = rng.choice([low, low + (1 << field.bits) - 1, rng.randrange(1 << field.bits) + low])
        image = changed(image, target, row, engine, **{field.name: value})
    return image


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_are_taken_or_refused(make_case: Make, seed: int) -> None:
    rng = random.Random(seed)
    overlay = make_case([WINNERS, SUMS, LISTS][seed % 3], "cores-chained", samples=1).overlay
    refused = 0
    for _ in range(60):
        with contextlib.suppress(ValueError):
            check(overlay, mutated(overlay.image, rng))
            continue
        refused += 1
    assert refused > 30
