import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trencadis_format.config import EngineConfig
from trencadis_format.image import Target
from trencadis_format.layer_tables import EMIT, Destination, Emission
from trencadis_format.models.emit import host_pieces, map_writes
from trencadis_hw.output.emit import Emitter
from trencadis_sim.testbench.load_bus import load_rows
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate

LOAD_BITS = 256
Position = tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]

LISTS = {
    "emission": Emission.LISTS,
    "destination": Destination.SELF,
    "out_map": 1,
    "buffers": 1,
    "zero": 0,
    "address": 9,
    "pitch": 6,
    "row_step": 40,
    "width": 2,
    "height": 1,
    "base": 100,
    "size": 60,
    "block": 0,
    "owners": 0,
}
LAYERS = [
    LISTS,
    LISTS | {"zero": 128, "destination": Destination.NEXT, "out_map": 3, "buffers": 2},
    LISTS | {"emission": Emission.TERMINATED, "pitch": 3, "width": 0, "height": 2, "out_map": 7},
    LISTS
    | {
        "emission": Emission.OWNED,
        "out_map": 3,
        "zero": 3,
        "width": 0,
        "height": 0,
        "pitch": 2,
        "block": 3,
        "owners": 3,
        "buffers": 2,
    },
    LISTS | {"emission": Emission.BYTES, "destination": Destination.HOST, "height": 0},
]


def rows_of(position: Position, number: int, width: int) -> list[dict[str, Any]]:
    """Rows as the selectors give them: those without survivors are missing, but for the last."""
    keys, mask = position
    count = -(-len(keys) // width)
    rows = []
    for i in range(count):
        part = slice(i * width, (i + 1) * width)
        bits = sum(int(bit) << j for j, bit in enumerate(mask[part]))
        filled = [*keys[part].tolist(), *[77] * (width - len(keys[part]))]
        if bits or i == count - 1:
            rows.append(
                {
                    "keys": filled,
                    "mask": bits,
                    "number": i,
                    "last": int(i == count - 1),
                    "layer": number,
                }
            )
    return rows


def random_position(layer: dict[str, int], generator: random.Random, longest: int) -> Position:
    """Keys, many of them zero, with no more survivors than the layer's list has room for."""
    emission = layer["emission"]
    length = generator.randint(1, longest)
    values = [layer["zero"], 0, 255, generator.randrange(256)]
    keys = np.array(generator.choices(values, k=length))
    mask = np.array([generator.random() < 0.7 for _ in range(length)])
    if emission == Emission.BYTES:
        mask[:] = True
    elif emission == Emission.OWNED:
        for owner in range(layer["owners"] + 1):
            mine = np.arange(owner * layer["block"], min((owner + 1) * layer["block"], length))
            mask[mine[layer["pitch"] :]] = False
        mask[(layer["owners"] + 1) * layer["block"] :] = False
    else:
        mask[np.flatnonzero(mask)[layer["pitch"] :]] = False
    return keys, mask


def comparable(write: dict[str, Any]) -> dict[str, int]:
    """A write as the model has it."""
    fields = {"next": write["next"], **write["write"]}
    entry = fields.pop("entry")
    assert fields.pop("everywhere") == 0
    if not fields["enable"]:
        del fields["owner"], fields["address"]
        return fields
    return fields | entry


@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.4, 0.4)])
@pytest.mark.parametrize("requantisers", [1, 2, 4])
def test_writes_equal_model(
    engine: Callable[..., EngineConfig], requantisers: int, stalls: tuple[float, float]
) -> None:
    config = engine(tiles=4, requantisers=requantisers, layers=len(LAYERS))
    dut = Emitter(config, load_bits=LOAD_BITS)
    generator = random.Random(f"{requantisers} {stalls}")
    rows: list[dict[str, Any]] = []
    writes: list[dict[str, int]] = []
    pieces: list[int] = []
    second = [False] * len(LAYERS)
    for _ in range(30):
        number = generator.randrange(len(LAYERS))
        layer = LAYERS[number]
        positions = [
            random_position(layer, generator, 8 if requantisers == 1 else 14)
            for _ in range((layer["width"] + 1) * (layer["height"] + 1))
        ]
        if layer["emission"] == Emission.BYTES:
            for keys, mask in positions:
                pieces += host_pieces(keys, mask, requantisers)
        else:
            writes += map_writes(layer, positions, second=second[number])
            second[number] ^= layer["buffers"] == 2
        for position in positions:
            rows += rows_of(position, number, requantisers)
    sink = Sink(dut.writes, len(writes), stall=stalls[1], seed=2)
    host = Sink(dut.host, len(pieces), stall=stalls[1], seed=3)

    async def load_and_send(ctx: Context) -> None:
        packed = [EMIT.pack(**layer) for layer in LAYERS]
        await load_rows(ctx, dut.load, Target.EMIT, packed)
        await Source(dut.rows, rows, stall=stalls[0], seed=1)(ctx)

    watch = [Monitor(dut.writes, "writes"), Monitor(dut.host, "host")]
    simulate(dut, load_and_send, sink, host, background=watch)
    assert [comparable(write) for write in sink.payloads] == writes
    assert host.payloads == pieces
    assert {write["enable"] for write in writes} == {0, 1}


def test_model_of_owned_lists() -> None:
    """Entries lie with their owner, each list ends, one that is full has no end to write."""
    keys = np.array([5, 0, 6, 0, 0, 0, 7, 0]) + 3
    writes = map_writes(LAYERS[3], [(keys, np.ones(8, bool))])
    lists = [
        (write.get("owner"), write.get("address"), write.get("index"), write.get("value"))
        for write in writes
    ]
    assert lists == [
        (0, 9, 0, 5),
        (0, 10, 2, 6),
        (None, None, None, None),
        (1, 9, 0, 0),
        (2, 9, 0, 7),
        (2, 10, 0, 0),
        (3, 9, 0, 0),
        (None, None, None, None),
    ]
    assert [write["final"] for write in writes] == [0] * 7 + [1]
