import csv

import pytest
from click.testing import CliRunner

from trencadis_train.search.search_cli import main

pytest.importorskip("torch")
pytest.importorskip("optuna")

RECIPE = """
name = "tiny"
seed = 3
data = {set = "npz"}
training = {epochs = 2, batch = 16}
quantisation = {epochs = 0, calibration = 64}

[[layer]]
kind = "conv"
units = 8
window = 3
ways = 2
pool = 2
winners = 2

[[layer]]
kind = "linear"
units = 4
"""


@pytest.fixture
def files(tmp_path, quadrants_file):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    assert quadrants_file == tmp_path / "data.npz"
    return tmp_path


def run(folder, *options):
    arguments = [
        str(folder / "recipe.toml"),
        "--output",
        str(folder / "out"),
        "--data",
        str(folder / "data.npz"),
        *options,
    ]
    return CliRunner().invoke(main, arguments)


def test_a_search_from_recipe_to_picture(files):
    options = ["--short-epochs", "1", "--trials", "4", "--promote", "2", "--density", "1"]
    options += ["--set", "training.batch=32"]
    result = run(files, *options, "--vary", "layer.0.ways=1|2|4", "--vary", "layer.0.winners=1..3")
    assert result.exit_code == 0, result.output
    with (files / "out" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Half go on, and one more if better ones come later than others went on.
    ended = len(rows) - 4
    assert ended in (2, 3)
    assert f"4 recipes tried, {ended} trained to the end" in result.output
    assert [row["stage"] for row in rows] == ["0"] * 4 + ["1"] * ended
    assert {row["epochs"] for row in rows} == {"1", "2"}
    # 8 kernels of 9 weights with so many ways, and 4 of 8 * 5 * 5 that are dense.
    for row in rows:
        weights = 72 // int(row["layer.0.ways"]) + 800
        assert float(row["density"]) == pytest.approx(weights / 872, abs=1e-6)
    (best,) = [row for row in rows if row["front"] == "True"][:1]
    changes = (
        f"--set training.batch=32 --set layer.0.ways={best['layer.0.ways']} --set layer.0.winners="
    )
    assert f"trial {best['number']}: {changes}{best['layer.0.winners']}" in result.output
    assert (files / "out" / "front.png").read_bytes().startswith(b"\x89PNG")
    again = run(files, *options, "--vary", "layer.0.ways=1|2|4", "--vary", "layer.0.winners=1..3")
    assert again.exit_code == 0
    assert "4 recipes tried" in again.output


def test_networks_that_are_too_dense_are_not_trained(files):
    result = run(files, "--trials", "3", "--density", "0.5", "--vary", "layer.0.winners=1|2|3")
    assert result.exit_code == 0, result.output
    assert result.output.count("too dense, not trained") == 3
    assert "0 trained to the end" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vary", "layer.0.ways"], "a field to vary must look like"),
        (["--vary", "layer.0.way=1|2"], "layer.0 has no field 'way'; did you mean 'ways'?"),
        (["--vary", "layer.0.winners=2..9"], "must be in 0..8, not 9"),
        (["--vary", "training.epochs=2..9"], "training.epochs cannot be varied"),
        (["--device", "abacus"], "--device must be a device that PyTorch can use here"),
        (["--data", "none.npz"], "none.npz: cannot be read"),
        (["--data", "none.npz", "--set", "training.start=nothing"], "nothing: holds no finished"),
        (["--storage", "nosuchdb://x"], "nosuchdb://x: not a storage of trials"),
        (["--set", "training.batch=1"], "training.batch must be at least 2"),
    ],
)
def test_mistakes_are_one_line_and_status_2(files, options, message):
    result = run(files, "--trials", "1", *options)
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("sparse-search: ")
    assert message in lines[0]


def test_help_names_the_thresholds():
    result = CliRunner().invoke(main, ["-h"])
    assert result.exit_code == 0
    assert "--accuracy" in result.output
    assert "--density" in result.output
