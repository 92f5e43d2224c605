import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import load_recipe
from trencadis_train.search.space import Choice, Range, default_space, overrides, parse_dimension


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.learning_rate=0.01..0.3:log", Range("training.learning_rate", 0.01, 0.3, True)),
        ("layer.0.winners=4..16", Range("layer.0.winners", 4, 16)),
        (" a = -2 .. 1e3 ", Range("a", -2, 1000.0)),
        ("a=.5..1.5", Range("a", 0.5, 1.5)),
        ("layer.0.ways=1|2|4", Choice("layer.0.ways", (1, 2, 4))),
        ("a = x | 2.5 | true", Choice("a", ("x", 2.5, True))),
    ],
)
def test_dimensions_from_text(text, expected):
    found = parse_dimension(text)
    assert found == expected
    assert parse_dimension(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a=",
        "a=3",
        "=1..2",
        "a=1..",
        "a=x..y",
        "a=..",
        "a=1..2..3",
        "a=1..2:lin",
        "a=1..inf",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(TrainingError, match="a field to vary must look like"):
        parse_dimension(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=3..1", "a: a range must go from a number to a larger one, not from 3 to 1"),
        ("a=1..1", "a: a range must go"),
        ("a=1..1e400", "a: a range must go"),
        ("a=0..1:log", "a: a range of ratios must begin over 0, not 0"),
        ("a=1|1", "a: choices must be two or more, all different"),
    ],
)
def test_impossible_dimensions_are_refused(text, message):
    with pytest.raises(TrainingError, match=message):
        parse_dimension(text)


def test_the_default_space_is_around_the_recipe(make_recipe):
    space = default_space(make_recipe(training={"learning_rate": 0.1, "weight_decay": 1e-3}))
    assert [str(dimension) for dimension in space] == [
        "training.learning_rate=0.025..0.4:log",
        "training.weight_decay=0.0001..0.01:log",
        "layer.0.ways=1|2|4|8",
        "layer.0.winners=1..4:log",
        "layer.1.ways=2|4|8",
        "layer.1.winners=1..4:log",
        "layer.2.ways=2|4|8|16",
        "layer.2.winners=2..8:log",
    ]


def test_dense_layers_and_no_decay_are_left_alone(make_recipe):
    layers = [{"kind": "linear", "units": 8}, {"kind": "linear", "units": 4}]
    space = default_space(make_recipe(layer=layers, training={"weight_decay": 0.0}))
    assert [dimension.field for dimension in space] == ["training.learning_rate"]


def test_values_become_changes_that_recipes_take(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('name = "a"\ndata.set = "digits"\n[[layer]]\nkind = "linear"\nunits = 10\n')
    values = {
        "training.learning_rate": 0.1 + 0.2,
        "layer.0.units": 12,
        "training.optimizer": "adamw",
    }
    recipe = load_recipe(path, overrides(values))
    assert recipe.training.learning_rate == 0.1 + 0.2
    assert recipe.layer[0].units == 12
    assert recipe.training.optimizer == "adamw"
    assert overrides({"a": True}) == ["a=true"]
