"""Sparse packed inputs: packed, read back, and written into lists by the hardware."""

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import EMIT, INPUT_ENTRY, Emission
from trencadis_format.models.emit import Write, map_writes
from trencadis_format.models.feed_lists import CrowdedError, pack_entries, unpack_entries
from trencadis_hw.transfer.feed_lists import ListFeeder
from trencadis_sim.testbench.streams import Context, Source, simulate

CONFIG = EngineConfig(
    lanes=2,
    tiles=2,
    kernels_per_tile=4,
    list_entries=64,
    weight_rows=64,
    slot_rows=8,
    queue_beats=16,
    requantisers=2,
    requantise_rows=16,
    reorder_rows=16,
    select_rows=4,
    layers=2,
)


def sparse_keys(samples: int, positions: int, channels: int, seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 256, (samples, positions, channels))
    return np.where(rng.random(keys.shape) < 0.3, keys, 77).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(1, 4),
    positions=st.integers(1, 6),
    channels=st.integers(1, 12),
    room=st.integers(0, 5),
    seed=st.integers(0, 1 << 20),
)
def test_samples_are_read_back(
    samples: int, positions: int, channels: int, room: int, seed: int
) -> None:
    keys = sparse_keys(samples, positions, channels, seed)
    needed = max(int(np.maximum((sample != 77).sum(axis=1), 1).sum()) for sample in keys)
    most = int((keys != 77).sum(axis=2).max())
    packed = pack_entries(keys, 77, most=most, entries=needed + room)
    assert packed.shape == (samples, needed + room)
    values = unpack_entries(packed, (positions, channels), 77)
    assert np.array_equal(values, keys.astype(np.int64) - 77)


def test_crowded_positions_are_named() -> None:
    keys = np.full((3, 4, 9), 77, np.uint8)
    keys[1, 2, :5] = 1
    keys[2, 0, :6] = 1
    assert pack_entries(keys, 77, most=6, entries=24).shape == (3, 24)
    with pytest.raises(CrowdedError, match=r"^position 2 of sample 1 has 5 that are not zero$"):
        pack_entries(keys, 77, most=4, entries=16)


def test_entries_are_those_of_the_format() -> None:
    keys = np.array([[[77, 5, 77, 200], [77, 77, 77, 77], [1, 77, 77, 77]]], np.uint8)
    entries = [
        {"key": 5, "index": 1, "present": 1, "last": 0, "end": 0, "reserved": 0},
        {"key": 200, "index": 3, "present": 1, "last": 1, "end": 0, "reserved": 0},
        {"key": 0, "index": 0, "present": 0, "last": 1, "end": 0, "reserved": 0},
        {"key": 1, "index": 0, "present": 1, "last": 1, "end": 1, "reserved": 0},
        dict.fromkeys((field.name for field in INPUT_ENTRY.fields), 0),
    ]
    packed = pack_entries(keys, 77, most=3, entries=5)
    assert [INPUT_ENTRY.unpack(int(entry)) for entry in packed[0]] == entries


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"end": 0}, "does not end with its position 2"),
        ({"last": 0}, "does not end with its position 2"),
        ({"index": 4}, "names channel 4 of 4"),
    ],
)
def test_bad_samples_are_refused(change: dict[str, int], message: str) -> None:
    keys = np.array([[[77, 5, 77, 200], [77, 77, 77, 77], [1, 77, 77, 77]]], np.uint8)
    packed = pack_entries(keys, 77, most=3, entries=5)
    packed[0, 3] = INPUT_ENTRY.pack(**INPUT_ENTRY.unpack(int(packed[0, 3])) | change)
    with pytest.raises(ValueError, match=message):
        unpack_entries(packed, (3, 4), 77)


EMISSIONS = {
    "lists": {"emission": Emission.LISTS, "pitch": 5, "row_step": 17, "width": 2, "height": 1},
    "terminated": {
        "emission": Emission.TERMINATED,
        "pitch": 12,
        "row_step": 40,
        "width": 1,
        "height": 2,
    },
    "owned": {"emission": Emission.OWNED, "pitch": 4, "block": 4, "owners": 2},
}


@pytest.mark.parametrize("bus_bits", [64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("buffers", [1, 2])
@pytest.mark.parametrize("name", EMISSIONS)
def test_writes_equal_model(name: str, buffers: int, stall: float, bus_bits: int) -> None:
    layer = dict.fromkeys((field.name for field in EMIT.fields), 0)
    layer |= {"zero": 77, "buffers": buffers, "out_map": 3, "base": 9, "size": 20, "address": 2}
    layer |= EMISSIONS[name]
    positions = (layer["width"] + 1) * (layer["height"] + 1)
    keys = sparse_keys(5, positions, 12, seed=3)
    if name == "lists":
        keys[..., 5:] = 77
    entries = 4 * bus_bits // 32 * positions
    packed = pack_entries(keys, 77, most=12, entries=entries)
    beats = [
        int.from_bytes(packed[sample].tobytes()[i : i + bus_bits // 8], "little")
        for sample in range(len(keys))
        for i in range(0, 4 * entries, bus_bits // 8)
    ]
    expected: list[Write] = []
    for number, sample in enumerate(keys.astype(np.int64)):
        masked = [(position, position != 77) for position in sample]
        expected += map_writes(layer, masked, second=buffers == 2 and number % 2 == 1)

    dut = ListFeeder(CONFIG, bus_bits=bus_bits, load_bits=EMIT.bits)
    generator = random.Random(f"{name} {buffers} {stall}")
    begun_samples: list[int] = []
    written: list[Write] = []

    async def drive(ctx: Context) -> None:
        ctx.set(dut.load.enable, 1)
        ctx.set(dut.load.target, Target.INPUT)
        ctx.set(dut.load.data, EMIT.pack(**layer))
        await ctx.tick()
        ctx.set(dut.load.enable, 0)
        ctx.set(dut.feed.beats, len(beats) // len(keys) - 1)
        await Source(dut.beats, beats, stall=stall, seed=7)(ctx)

    async def watch(ctx: Context) -> None:
        while True:
            allowed = generator.random() >= stall
            ctx.set(dut.allowed, allowed)
            _, _, begun = await ctx.tick().sample(dut.begun)
            assert allowed or not begun
            begun_samples.extend([1] * begun)

    async def take(ctx: Context) -> None:
        ctx.set(dut.writes.ready, 1)
        while True:
            ready = generator.random() >= stall
            ctx.set(dut.writes.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(dut.writes.valid, dut.writes.payload)
            if valid and ready:
                written.append(as_model(payload))

    async def finish(ctx: Context) -> None:
        await drive(ctx)
        while len(written) < len(expected):
            await ctx.tick()

    simulate(dut, finish, background=[watch, take])
    assert written == expected
    assert len(begun_samples) == len(keys)


def as_model(payload: Any) -> Write:
    """A write as the model has it: where nothing is stored there is no address and no entry."""
    write = {name: int(getattr(payload, name)) for name in ("map", "owned", "base", "size")}
    write |= {"next": 0, "enable": int(payload.enable), "final": int(payload.final)}
    if payload.enable:
        write |= {name: int(getattr(payload, name)) for name in ("owner", "address")}
        write |= {"index": int(payload.entry.index), "value": int(payload.entry.value)}
    return write
