"""A small overlay, and a path to write it to."""

from pathlib import Path

import pytest
from fixtures.containers import blocks_for

from trencadis_format.config import CoreConfig, KernelConfig
from trencadis_format.image import pack_blocks
from trencadis_format.overlay import Overlay
from trencadis_format.tensor_formats import InputFormat, OutputFormat


@pytest.fixture
def overlay(engine) -> Overlay:
    """9 inputs in two beats of 8 bytes, 3 sums of 4 places in two beats of 8 bytes."""
    kernel = KernelConfig(core=CoreConfig(engines=(engine(),)))
    return Overlay(
        name="net",
        kernel=kernel,
        image=pack_blocks(blocks_for(kernel)),
        input=InputFormat(
            name="x",
            dtype="float32",
            shape=(None, 1, 3, 3),
            axes="CHW",
            channels=1,
            rows=3,
            columns=3,
            scale=0.5,
            zero_key=128,
            key_offset=128,
        ),
        output=OutputFormat(
            name="y",
            dtype="float32",
            shape=(1, 3),
            axes="C",
            channels=3,
            rows=1,
            columns=1,
            piece_bytes=2,
            pieces=2,
            places=4,
            order=(2, 0, 1),
            raw=False,
            integer=False,
            scales=(0.25,),
            offsets=(),
            zero_key=128,
            key_offset=128,
        ),
        report={"cycles_per_word": 12.5, "cycles_are": "static"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.tcd"
