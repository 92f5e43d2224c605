import random

import pytest

from trencadis_format.image import ABI_VERSION, HEADER, Block, Target, pack_blocks
from trencadis_hw.control.loader import ImageLoader
from trencadis_sim.testbench.streams import Context, Source, simulate

CONFIGURATION = 0x0123_4567_89AB_CDEF
LOAD_BITS = 100
Row = tuple[int, int, int, int, int]


def header(version: int = ABI_VERSION, configuration: int = CONFIGURATION) -> Block:
    row = HEADER.pack(version=version, configuration=configuration)
    return Block(Target.HEADER, [row], HEADER.bits)


END = Block(Target.END, [], 0)
CLEAR = Block(Target.CLEAR, [], 0)


def beats_of(image: bytes, bus_bits: int) -> list[int]:
    size = bus_bits // 8
    padded = image + bytes(-len(image) % size)
    return [int.from_bytes(padded[i : i + size], "little") for i in range(0, len(padded), size)]


def load(
    image: bytes, *, bus_bits: int = 64, stall: float = 0.0, clear_cycles: int = 3
) -> tuple[list[Row], bool, int]:
    """Writes of an image on the bus, its verdict, and how often the cores were cleared."""
    dut = ImageLoader(configuration=CONFIGURATION, bus_bits=bus_bits, load_bits=LOAD_BITS)
    rows: list[Row] = []
    clears = 0
    good = started = False
    source = Source(dut.beats, [*beats_of(image, bus_bits), 0, 0, 0, 0], stall=stall, seed=3)

    async def send(ctx: Context) -> None:
        while not started:
            await ctx.tick()
        await source(ctx)

    async def drive(ctx: Context) -> None:
        nonlocal good, started
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        started = True
        done = False
        while not done:
            _, _, done = await ctx.tick().sample(dut.done)
        good = bool(ctx.get(dut.good))

    async def watch(ctx: Context) -> None:
        nonlocal clears
        bus = dut.load
        waited = 0
        while True:
            _, _, enable, clear, *row = await ctx.tick().sample(
                bus.enable, dut.clear, bus.target, bus.engine, bus.unit, bus.row, bus.data
            )
            if enable:
                rows.append(tuple(row))
            waited = waited + 1 if clear else 0
            clears += waited == 1
            ctx.set(dut.cleared, waited >= clear_cycles)

    simulate(dut, drive, background=[watch, send])
    return rows, good, clears


def random_blocks(seed: int) -> list[Block]:
    generator = random.Random(seed)
    blocks = []
    for _ in range(12):
        bits = generator.choice([1, 31, 32, 33, 64, 96, LOAD_BITS])
        blocks.append(
            Block(
                generator.choice([Target.SELECT, Target.WEIGHT, Target.TABLE, Target.GATHER]),
                [generator.getrandbits(bits) for _ in range(generator.randint(0, 5))],
                bits,
                engine=generator.randrange(4),
                unit=generator.randrange(256),
                start=generator.choice([0, 7, 65535 - 4]),
            )
        )
    return blocks


@pytest.mark.parametrize("bus_bits", [64, 128, 512])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_rows_reach_the_bus(bus_bits: int, stall: float) -> None:
    blocks = random_blocks(bus_bits)
    rows, good, clears = load(
        pack_blocks([header(), CLEAR, *blocks, END]), bus_bits=bus_bits, stall=stall
    )
    assert good
    assert clears == 1
    assert rows == [
        (block.target, block.engine, block.unit, block.start + number, row)
        for block in blocks
        for number, row in enumerate(block.rows)
    ]


@pytest.mark.parametrize(
    "blocks",
    [
        [header(version=ABI_VERSION + 1)],
        [header(configuration=CONFIGURATION ^ 1)],
        [header(configuration=CONFIGURATION ^ 1 << 63)],
        [],
        [CLEAR],
        [header(), header()],
        [header(), Block(Target.WEIGHT, [0], 5 * 32)],
    ],
    ids=["version", "configuration low", "high", "no header", "clear first", "two", "long rows"],
)
def test_images_are_refused_before_any_row(blocks: list[Block]) -> None:
    ordinary = Block(Target.SELECT, [1, 2], 15)
    rows, good, clears = load(pack_blocks([*blocks, ordinary, END]))
    assert (rows, good, clears) == ([], False, 0)


def test_garbage_is_refused() -> None:
    rows, good, _ = load(pack_blocks([header()]) + b"\xff" * 64)
    assert (rows, good) == ([], False)


def test_a_good_image_after_a_bad_one() -> None:
    dut = ImageLoader(configuration=CONFIGURATION, bus_bits=64, load_bits=LOAD_BITS)
    results = []

    async def drive(ctx: Context) -> None:
        for blocks in ([header(version=9), END], [header(), END]):
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            feed = beats_of(pack_blocks(blocks), 64)
            ended = False
            for beat in feed:
                if ended:
                    break
                ctx.set(dut.beats.payload, beat)
                ctx.set(dut.beats.valid, 1)
                ready = False
                while not ready and not ended:
                    _, _, ready, ended = await ctx.tick().sample(dut.beats.ready, dut.done)
            ctx.set(dut.beats.valid, 0)
            while not ended:
                _, _, ended = await ctx.tick().sample(dut.done)
            results.append(ctx.get(dut.good))

    simulate(dut, drive)
    assert results == [0, 1]
