import json
from pathlib import Path

import pytest

from trencadis_train.sparse.bench import command
from trencadis_train.sparse.bench.command import compose, main

KEYS = [
    "masked_ratio",
    "kernel_ns",
    "accuracy_published_settings",
    "accuracy_own_settings",
    "bytes_per_connection",
    "largest_neurons",
]


def test_figures_have_their_keys_and_missing_ones_are_null() -> None:
    assert list(compose({}))[:6] == KEYS
    assert all(compose({})[key] is None for key in KEYS)
    found = compose(
        {
            "masked": {"masked_ratio": 9.0},
            "kernels": {"kernel_ns": 0.2},
            "scale-10m": {"neurons": 10, "bytes_per_connection": 20.5},
            "scale-50m": {"neurons": 50, "bytes_per_connection": 19.0},
            **{f"own-{n}": {"test": {"set": n / 4, "fixed": 0.0}} for n in (1, 2, 3)},
        }
    )
    assert [found[key] for key in KEYS] == [9.0, 0.2, None, 0.5, 20.5, 50]


def test_a_part_that_is_there_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def measure(folder: Path) -> dict[str, float]:
        calls.append(1)
        return {"kernel_ns": 0.1 * len(calls)}

    monkeypatch.setattr(command, "PARTS", {"kernels": measure})
    monkeypatch.setattr(command, "EXTRA_PARTS", {})
    for again in ([], [], ["--again"]):
        main(["--output", str(tmp_path), *again])
    assert len(calls) == 2
    assert json.loads((tmp_path / "train.json").read_text())["kernel_ns"] == 0.2
    assert "kernels: there already" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["--output", str(tmp_path), "speed"])
    assert caught.value.code == 2
    assert "there is no part 'speed'; there are kernels" in capsys.readouterr().err
