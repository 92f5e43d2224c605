from pathlib import Path
from typing import Any

import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe, load_recipe, parse_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"

TEXT = """
name = "small"
[data]
set = "digits"
[[layer]]
kind = "conv"
units = 4
winners = 2
[[layer]]
kind = "linear"
units = 10
[training]
epochs = 7
"""


def _data(**changes: Any) -> dict[str, Any]:
    layers = [{"kind": "conv", "units": 4}, {"kind": "linear", "units": 10}]
    return {"name": "small", "data": {"set": "digits"}, "layer": layers, **changes}


def _layers(**changes: Any) -> dict[str, Any]:
    return _data(layer=[{"kind": "conv", "units": 4, **changes}, {"kind": "linear", "units": 10}])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT)
    return path


def test_reads_a_file_and_fills_in_defaults(path: Path) -> None:
    recipe = load_recipe(path)
    assert (recipe.name, recipe.seed, recipe.training.epochs) == ("small", 1, 7)
    assert recipe.training.batch == 64
    assert recipe.layer[0].winners == 2
    assert recipe.layer[1].kind == "linear"


def test_plain_data_come_back_as_the_same_recipe(path: Path) -> None:
    recipe = load_recipe(
        path, ["augment.noise_snr_db=[5, 10.5]", "data.set=npz", 'data.words=["a", "b"]']
    )
    assert parse_recipe(recipe.to_dict()) == recipe
    assert recipe.augment.noise_snr_db == (5.0, 10.5)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("training.epochs=3", lambda recipe: recipe.training.epochs == 3),
        ("training.learning_rate = 1", lambda recipe: recipe.training.learning_rate == 1.0),
        ("training.optimizer=adamw", lambda recipe: recipe.training.optimizer == "adamw"),
        ('name="other"', lambda recipe: recipe.name == "other"),
        ("layer.0.winners=3", lambda recipe: recipe.layer[0].winners == 3),
        ("dynamic.every=100", lambda recipe: recipe.dynamic.every == 100),
        ("distillation.teacher=a", lambda r: r.distillation.teachers == (Path("a"),)),
        ("distillation.teacher=", lambda r: r.distillation.teachers == ()),
        ('distillation.teacher=["a"]', lambda r: r.distillation.teacher == "a"),
        ('distillation.teacher=["a", "b"]', lambda r: len(r.distillation.teachers) == 2),
    ],
)
def test_changes(path: Path, change: str, found: Any) -> None:
    assert found(load_recipe(path, [change]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "a change must look like training.epochs=3, not 'epochs'"),
        (".x=3", "a change must look like"),
        ("layer.2.units=3", "'layer.2.units=3' must count entries from 0 to 1, not '2'"),
        ("layer.x.units=3", "must count entries from 0 to 1, not 'x'"),
        ("layer.9=3", "must count entries from 0 to 1, not '9'"),
        ("name.x=3", "'name.x=3' changes a field of name, which has none"),
    ],
)
def test_refuses_broken_changes(path: Path, change: str, message: str) -> None:
    with pytest.raises(TrainingError) as error:
        load_recipe(path, [change])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the recipe must be a table, not []"),
        ({"name": "x"}, "the recipe needs data, layer"),
        (_data(sed=1), "the recipe has no field 'sed'; did you mean 'seed'?"),
        (_data(zzzz=1), "the recipe has no field 'zzzz'; there are name, data"),
        (_data(name="a/b"), "name must be letters, digits, - and _, not 'a/b'"),
        (_data(name=""), "name must be letters, digits, - and _, not ''"),
        (_data(seed=-1), "seed must be in 0..4294967295, not -1"),
        (_data(seed=True), "seed must be an integer, not True"),
        (_data(seed=1.5), "seed must be an integer, not 1.5"),
        (_data(data={"set": "cifar"}), "data.set must be one of digits, fashion-mnist, idx"),
        (_data(data={"set": "npz", "words": ["a", "a"]}), "data.words must be all different"),
        (_data(data={"set": "idx", "validation": 0.9}), "data.validation must be in 0.01..0.5"),
        (
            _data(data={"set": "digits", "words": ["a"]}),
            "data.words must be left out unless data.set is npz or speech-commands, not ('a',)",
        ),
        (
            _data(data={"set": "speech-commands", "keep": "old"}),
            "data.keep must be left out unless data.set is npz, not 'old'",
        ),
        (
            _layers(mask="unstructured", ways=2, nonzeros=1),
            "layer.ways must be 1 unless mask is complementary, not 2",
        ),
        (
            _layers(mask="n:m", n=2, m=4, nonzeros=1),
            "layer.nonzeros must be left out where mask is n:m, not 1",
        ),
        (_data(layer=[]), "layer must be a list of at least one layer"),
        (_data(layer={}), "layer must be a list, not {}"),
        (_data(layer=[3]), "layer.0 must be a table, not 3"),
        (
            _data(layer=[{"kind": "linear", "units": 4}, {"kind": "conv", "units": 4}]),
            "layer must be convolutions first, then linear layers",
        ),
        (
            _data(layer=[{"kind": "linear", "units": 4, "winners": 1}]),
            "winners of the last layer must be 0, not 1",
        ),
        (_layers(units=0), "layer.units must be at least 1, not 0"),
        (_layers(winners=5), "layer.winners (k of k-WTA) must be in 0..4, not 5"),
        (_layers(dropout=1), "layer.0: layer.dropout must be in 0..0.95"),
        (_layers(ways=3), "layer.ways must be a number that divides the 4 units, not 3"),
        (_layers(n=2, m=4), "layer.n and layer.m must be left out unless mask is n:m, not [2, 4]"),
        (
            _data(layer=[{"kind": "linear", "units": 4, "pool": 2}]),
            "layer.pool of a linear layer must be 1, not 2",
        ),
        (_data(augment={"noise": 1.5}), "augment.noise must be in 0..1, not 1.5"),
        (_data(augment={"shift": -1}), "augment.shift must be at least 0"),
        (_data(augment={"noise_snr_db": [3]}), "augment.noise_snr_db must have 2 entries, not 1"),
        (_data(augment={"noise_snr_db": [9, 3]}), "two numbers in ascending order"),
        (_data(dynamic={"fraction": 2}), "dynamic.fraction must be in 0..1"),
        (
            _data(distillation={"teacher": ["a", ""]}),
            "distillation.teacher must be folders, not ['a', '']",
        ),
        (_data(distillation={"temperature": 0}), "distillation.temperature must be positive"),
        (_data(training={"epochs": 0}), "training.epochs must be at least 1, not 0"),
        (_data(training={"batch": 1}), "training.batch must be at least 2, not 1"),
        (_data(training={"learning_rate": 0}), "training.learning_rate must be positive"),
        (_data(training={"learning_rate": float("nan")}), "training.learning_rate must be finite"),
        (
            _data(training={"choose": "last", "patience": 2}),
            "training.patience must be 0 where the last epoch is chosen, not 2",
        ),
        (_data(training={"momentum": 1}), "training.momentum must be in 0..1, without 1"),
        (_data(training={"precision": "int4"}), "training.precision must be one of float32"),
        (_data(training={"epochs": "7"}), "training.epochs must be an integer, not '7'"),
        (_data(quantisation={"calibration": 0}), "quantisation.calibration must be at least 1"),
    ],
)
def test_names_what_is_wrong(data: Any, message: str) -> None:
    with pytest.raises(TrainingError) as error:
        parse_recipe(data)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    with pytest.raises(TrainingError, match=r"recipe\.toml: cannot be read: No such file"):
        load_recipe(path)
    path.write_text("name = ")
    with pytest.raises(TrainingError, match=r"recipe\.toml: not TOML: "):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match=r"recipe\.toml: not TOML: "):
        load_recipe(path)
    path.write_text("name = 'x'")
    with pytest.raises(TrainingError, match=r"recipe\.toml: the recipe needs data, layer"):
        load_recipe(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.toml")), ids=lambda path: path.stem)
def test_recipes_of_the_examples_are_valid(path: Path) -> None:
    assert isinstance(load_recipe(path), Recipe)


def test_there_are_examples() -> None:
    assert len(list(EXAMPLES.glob("*/*.toml"))) >= 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("seed = " + "9" * 5000, "not TOML"),
        ("seed = 0x" + "f" * 5000, "seed must be"),
        ("name = '" + "x" * 5000 + "/'", "name must be letters"),
        ("[training]\nlearning_rate = 0x" + "f" * 5000, "training.learning_rate must be"),
        ("[[layer]]\nkind = 'linear'\nunits = 9999999999999", "layer.0.units must be"),
    ],
)
def test_recipes_of_any_depth_and_digits_are_one_short_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "recipe.toml"
    top = {
        "name": 'name = "a"',
        "data": 'data = {set = "digits"}',
        "layer": "layer = [{kind = 'linear', units = 10}]",
    }
    lines = [line for name, line in top.items() if f"{name} =" not in text]
    if "[[layer]]" in text:
        lines = lines[:-1]
    path.write_text("\n".join([*lines, text]))
    with pytest.raises(TrainingError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_a_recipe_is_a_regular_file_of_some_size(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a recipe must be a regular file"):
        load_recipe(Path("/dev/zero"))
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(TrainingError, match="a recipe must have 1048576 bytes at most"):
        load_recipe(large)
