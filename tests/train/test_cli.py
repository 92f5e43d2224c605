import json
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from trencadis_train.cli import main

TEXT = """
name = "tiny"
[data]
set = "npz"
[[layer]]
kind = "conv"
units = 4
window = 3
ways = 2
pool = 2
winners = 2
[[layer]]
kind = "linear"
units = 4
[training]
epochs = 2
batch = 16
[quantisation]
epochs = 1
"""


@pytest.fixture
def folder(tmp_path: Path, quadrants_file: Path) -> Path:
    """A recipe and its data."""
    (tmp_path / "recipe.toml").write_text(TEXT)
    assert quadrants_file == tmp_path / "data.npz"
    return tmp_path


def _run(folder: Path, arguments: Sequence[str] = ()) -> Result:
    fixed = [str(folder / "recipe.toml"), "-o", str(folder / "out"), "--device", "cpu"]
    return CliRunner().invoke(main, [*fixed, *arguments], catch_exceptions=False)


def _data(folder: Path) -> list[str]:
    return ["--data", str(folder / "data.npz")]


def test_trains_and_prints_a_summary(folder: Path) -> None:
    pytest.importorskip("torch")
    result = _run(folder, [*_data(folder), "--json", "--seed", "7", "--epochs", "3"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["seed"] == 7
    assert summary["epochs"] == {"float": 3, "integers": 1}
    assert summary["accuracy"]["int8"].keys() == {"validation", "test"}
    assert result.stderr.count("validation") == 3 + 2
    assert {path.name for path in (folder / "out").iterdir()} == {
        "checkpoint.safetensors",
        "curves.png",
        "float.safetensors",
        "metrics.csv",
        "metrics.json",
        "tiny.onnx",
    }


def test_changes_and_tables(folder: Path) -> None:
    pytest.importorskip("torch")
    changes = ["--set", "training.epochs=1", "--set", "quantisation.epochs=0", "--no-test"]
    result = _run(folder, [*_data(folder), *changes])
    assert result.exit_code == 0, result.output
    assert "int8" in result.stdout
    assert "% sparse); seed 1" in " ".join(result.stdout.split())
    again = _run(folder, [*_data(folder), *changes, "--resume"])
    assert again.exit_code == 0
    assert again.stderr == ""


def test_what_a_resumed_training_began_with_may_be_gone(folder: Path) -> None:
    pytest.importorskip("torch")
    assert _run(folder, _data(folder)).exit_code == 0
    (folder / "out").rename(folder / "first")
    start = [*_data(folder), "--set", f"training.start={folder / 'first'}"]
    assert _run(folder, start).exit_code == 0
    (folder / "first").rename(folder / "gone")
    assert _run(folder, [*start, "--resume"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data set 'npz' needs a path; give it with --data, or as path in [data]"),
        (["--data", "nowhere.npz"], "nowhere.npz: "),
        (["--set", "training.epochs"], "a change must look like training.epochs=3"),
        (
            ["--set", "layer.0.ways=3"],
            "layer.0: layer.ways must be a number that divides the 4 units",
        ),
        (["--set", "layer.0.winners=9"], "layer.winners (k of k-WTA) must be in 0..4, not 9"),
        # Before data are read.
        (
            ["--data", "nowhere.npz", "--set", "training.start=nothing"],
            "nothing: holds no finished training",
        ),
        (["--device", "abacus"], "--device must be a device that PyTorch can use here"),
    ],
)
def test_mistakes_are_one_line(folder: Path, arguments: list[str], message: str) -> None:
    pytest.importorskip("torch")
    data = _data(folder) if arguments and arguments[0] != "--data" else []
    result = _run(folder, [*data, *arguments])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("sparse-train: ")
    assert message in lines[0]
    assert result.stdout == ""


def test_a_recipe_that_is_missing_is_named(tmp_path: Path) -> None:
    result = _run(tmp_path)
    assert result.exit_code == 2
    assert "recipe.toml: cannot be read: No such file or directory" in result.stderr
    assert result.stderr.count("\n") == 1


def test_divergence_is_one_line(folder: Path) -> None:
    pytest.importorskip("torch")
    result = _run(folder, [*_data(folder), "--set", "training.learning_rate=1e30"])
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("sparse-train: phase 'float', epoch")
    assert "lower learning_rate" in last


def test_stopping_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trencadis_train.training.masked.train_epoch", stop)
    result = _run(folder, _data(folder))
    assert result.exit_code == 130
    assert "and the same command with --resume goes on" in result.stderr


def test_features_of_recordings_are_kept_in_the_folder(folder: Path) -> None:
    pytest.importorskip("torch")
    sounds = folder / "sounds"
    names: dict[str, list[str]] = {"validation": [], "testing": []}
    for number, word in enumerate("abcd"):
        (sounds / word).mkdir(parents=True)
        for clip in range(9):
            path = sounds / word / f"{clip:08x}_nohash_0.wav"
            tone = np.sin(np.arange(16_000) * (0.1 + 0.3 * number)) * (2000 + 100 * clip)
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, 16_000, 16_000, "NONE", ""))
                file.writeframes(tone.astype("<i2").tobytes())
            if clip < 4:
                names["validation" if clip < 2 else "testing"].append(f"{word}/{path.name}")
    for kind, lines in names.items():
        (sounds / f"{kind}_list.txt").write_text("\n".join(lines) + "\n")
    changes = ["--set", "data.set=speech-commands", "--epochs", "1", "--no-test", "--json"]
    result = _run(folder, [*changes, "--data", str(sounds)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["examples"] == {"train": 20, "validation": 8, "test": 8}
    kept = sorted(path.name for path in (folder / "out" / "features").iterdir())
    assert kept == [f"{word}.npz" for word in "abcd"]
