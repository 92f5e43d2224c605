"""Search spaces: the parts of a recipe that a search may change, and between which values."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe

__all__ = [
    "Choice",
    "Dimension",
    "Range",
    "Value",
    "default_space",
    "overrides",
    "parse_dimension",
]

Value = int | float | str | bool

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"\s*({NUMBER})\s*\.\.\s*({NUMBER})(:log)?\s*")


@dataclass(frozen=True)
class Range:
    """Numbers between two others.

    Attributes
    ----------
    field : str
        Field of the recipe, like `training.learning_rate` or `layer.0.winners`.
    low, high : int or float
        Both included; whole numbers if both are.
    log : bool
        Ratios count, not differences.
    """

    field: str
    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise TrainingError(
                f"{self.field}: a range must go from a number to a larger one, not from {self.low} "
                f"to {self.high}"
            )
        if self.log and self.low <= 0:
            raise TrainingError(
                f"{self.field}: a range of ratios must begin over 0, not {self.low}"
            )

    @property
    def ends(self) -> tuple[Value, ...]:
        """The outermost values."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.field}={self.low}..{self.high}{':log' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Attributes
    ----------
    field : str
        Field of the recipe.
    values : tuple
        At least two.
    """

    field: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < 2 or len(set(self.values)) < len(self.values):
            raise TrainingError(f"{self.field}: choices must be two or more, all different")

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def __str__(self) -> str:
        texts = [_toml(value).strip('"') for value in self.values]
        return f"{self.field}={'|'.join(texts)}"


Dimension = Range | Choice


def parse_dimension(text: str) -> Dimension:
    """A dimension from text: `FIELD=LOW..HIGH`, `FIELD=LOW..HIGH:log` or `FIELD=A|B|C`.

    Raises
    ------
    TrainingError
        If it is nothing of these.
    """
    field, equals, rest = text.partition("=")
    field = field.strip()
    if equals and field and "|" in rest:
        return Choice(field, tuple(_value(part.strip()) for part in rest.split("|")))
    found = RANGE.fullmatch(rest)
    if equals and field and found:
        low, high = (_number(part) for part in found.group(1, 2))
        return Range(field, low, high, log=found.group(3) is not None)
    raise TrainingError(
        "a field to vary must look like training.learning_rate=0.01..0.3:log or "
        f"layer.0.ways=1|2|4, not {text!r}"
    )


def default_space(recipe: Recipe) -> tuple[Dimension, ...]:
    """Suggest what is worth varying: learning rate and decay, and the sparsity of every layer.

    A layer that has winners gets from half to twice as many; a layer with complementary masks of
    more than one way gets the numbers of ways from half to four times as many that its kernels
    allow.
    """
    training = recipe.training
    found: list[Dimension] = [
        Range(
            "training.learning_rate",
            training.learning_rate / 4,
            training.learning_rate * 4,
            log=True,
        )
    ]
    if training.weight_decay:
        low, high = training.weight_decay / 10, training.weight_decay * 10
        found.append(Range("training.weight_decay", low, high, log=True))
    for number, layer in enumerate(recipe.layer):
        if layer.mask == "complementary" and layer.ways > 1 and not layer.nonzeros:
            ways = tuple(
                ways
                for ways in range(max(1, layer.ways // 2), 4 * layer.ways + 1)
                if layer.units % ways == 0
            )
            if len(ways) > 1:
                found.append(Choice(f"layer.{number}.ways", ways))
        if layer.winners:
            low, high = max(1, layer.winners // 2), min(layer.units, 2 * layer.winners)
            if low < high:
                found.append(Range(f"layer.{number}.winners", low, high, log=True))
    return tuple(found)


def overrides(values: Mapping[str, Value]) -> list[str]:
    """Changes of a recipe as `load_recipe` takes them."""
    return [f"{field}={_toml(value)}" for field, value in values.items()]


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _value(text: str) -> Value:
    try:
        return _number(text)
    except ValueError:
        return {"true": True, "false": False}.get(text, text)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
