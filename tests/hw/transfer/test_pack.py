import random

import pytest

from trencadis_format.layer_tables import FEED
from trencadis_format.models.pack import sample_beats
from trencadis_hw.transfer.pack import Packer
from trencadis_sim.testbench.streams import Context, Monitor, Sink, Source, simulate


@pytest.mark.parametrize("pieces_of_sample", [1, 2, 5, 8])
@pytest.mark.parametrize("piece_bits", [8, 32, 64])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.4, 0.4)])
def test_beats_equal_model(
    pieces_of_sample: int, piece_bits: int, stalls: tuple[float, float]
) -> None:
    dut = Packer(piece_bits=piece_bits, bus_bits=64, depth=2)
    generator = random.Random(f"{pieces_of_sample} {piece_bits} {stalls}")
    samples = [
        [generator.getrandbits(piece_bits) for _ in range(pieces_of_sample)] for _ in range(12)
    ]
    expected = [
        beat
        for sample in samples
        for beat in sample_beats(sample, piece_bits=piece_bits, bus_bits=64)
    ]
    pieces = [piece for sample in samples for piece in sample]
    sink = Sink(dut.beats, len(expected), stall=stalls[1], seed=9)

    async def drive(ctx: Context) -> None:
        feed = {field.name: 0 for field in FEED.fields} | {"out_pieces": pieces_of_sample - 1}
        ctx.set(dut.feed, feed)
        await Source(dut.pieces, pieces, stall=stalls[0], seed=8)(ctx)

    simulate(dut, drive, sink, background=[Monitor(dut.beats, "packer")])
    assert sink.payloads == expected


def test_pieces_must_fill_a_beat() -> None:
    with pytest.raises(ValueError, match=r"^pieces of 24 bits do not fill a beat of 64 bits$"):
        Packer(piece_bits=24, bus_bits=64, depth=2)
