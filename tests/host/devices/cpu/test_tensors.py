"""The model's own arrays, against packing and unpacking them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trencadis_format.errors import InputError
from trencadis_host import Session
from trencadis_host.devices.cpu.device import CpuDevice
from trencadis_host.measure.benchmark import random_inputs

VARIANTS: list[dict[str, Any]] = [
    {},
    {"integer": True},
    {"sums": True},
    {"dtype": "int8"},
    {"dtype": "uint8", "integer": True},
]


@pytest.fixture(params=VARIANTS, ids=str)
def image(request: pytest.FixtureRequest, compiled: Callable[..., tuple[Path, Path]]) -> Path:
    return compiled(**request.param)[1]


@pytest.mark.parametrize("count", [1, 7, 40])
def test_outputs_are_those_of_the_emulator(
    image: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    infer = CpuDevice.infer

    def noted(device: CpuDevice, array: Any) -> Any:
        found = infer(device, array)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(CpuDevice, "infer", noted)
    with Session(image, "cpu", threads=2) as ours, Session(image, "emulator") as theirs:
        inputs = random_inputs(ours, count, seed=count)
        (outputs,) = ours.run(None, {"image": inputs})
        (expected,) = theirs.run(None, {"image": inputs})
        assert ours.statistics is not None
        assert ours.statistics.samples == count
    assert taken == [True]
    assert outputs.dtype == expected.dtype
    assert outputs.shape == expected.shape
    assert outputs.tobytes() == expected.tobytes()


def test_numbers_near_ties_and_beyond_the_range(
    compiled: Callable[..., tuple[Path, Path]],
) -> None:
    image = compiled()[1]
    with Session(image, "cpu") as ours, Session(image, "emulator") as theirs:
        (form,) = ours.get_inputs()
        scale = ours.overlay.input.scale
        halves = (np.arange(2 * 8 * 8 * 6) - 300 + 0.5) * scale
        inputs = halves.astype(np.float32).reshape(6, 2, 8, 8)
        inputs[1] = np.nextafter(inputs[1], np.float32(np.inf))
        inputs[2] = np.nextafter(inputs[2], np.float32(-np.inf))
        inputs[3] *= np.float32(1e30)
        assert np.array_equal(
            ours.run(None, {form.name: inputs})[0], theirs.run(None, {form.name: inputs})[0]
        )


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(
    compiled: Callable[..., tuple[Path, Path]], number: float
) -> None:
    with Session(compiled()[1], "cpu") as session:
        inputs = random_inputs(session, 40)
        inputs[33, 1, 2, 3] = number
        with pytest.raises(
            InputError, match=r"must be finite, but is -?(nan|inf) at \[33, 1, 2, 3"
        ):
            session.run(None, {"image": inputs})
        assert np.isfinite(session.run(None, {"image": inputs[:33]})[0]).all()


def test_other_arrays_are_packed(compiled: Callable[..., tuple[Path, Path]]) -> None:
    with Session(compiled()[1], "cpu") as session:
        inputs = random_inputs(session, 12)
        (expected,) = session.run(None, {"image": inputs})
        reordered = np.asfortranarray(inputs)
        for given in (reordered, np.repeat(inputs, 2, axis=0)[::2], inputs.tolist()):
            if isinstance(given, list):
                given = np.array(given, np.float32)
            assert np.array_equal(session.run(["logits"], {"image": given})[0], expected)
        with pytest.raises(InputError):
            session.run(None, {"image": inputs[:, :1]})
