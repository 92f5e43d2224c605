"""Recipes: what to train, on what, and how; read from TOML and checked.

Every field of a table in a recipe is a field of a class here, with its default. What is unknown,
of the wrong type or out of range is refused with one line that names it.
"""

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from trencadis_train.errors import TrainingError

__all__ = [
    "Augmentation",
    "DataSource",
    "Distillation",
    "DynamicMasks",
    "LayerRecipe",
    "Quantisation",
    "Recipe",
    "Training",
    "load_recipe",
    "parse_recipe",
]

_Table = TypeVar("_Table")


def _check(condition: bool, subject: str, rule: str, value: object) -> None:
    if not condition:
        raise TrainingError(f"{subject} must be {rule}, not {value!r}")


def _check_range(subject: str, value: float, low: float, high: float = math.inf) -> None:
    rule = f"at least {low}" if high == math.inf else f"in {low}..{high}"
    _check(low <= value <= high, subject, rule, value)


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where examples come from."""

    set: Literal["digits", "idx", "npz", "speech-commands"]
    """`digits`: inside a package. `idx`: a folder with the four files of MNIST or Fashion-MNIST.
    `npz`: one file. `speech-commands`: the folder of the official data set."""
    path: str = ""
    """The folder or file; the command line may give another."""
    words: tuple[str, ...] = ()
    """Classes to keep, in this order; all without it. Not for `digits` and `idx`."""
    keep: str = ""
    """`npz`: a boolean array of the file; only examples where it is true are kept."""
    noise: str = ""
    """`npz`: the class whose recordings serve as noise."""
    validation: float = 0.1
    """`idx`: share of the training examples that validate."""

    def __post_init__(self) -> None:
        _check_range("data.validation", self.validation, 0.01, 0.5)
        _check(len(set(self.words)) == len(self.words), "data.words", "all different", self.words)
        own = {"words": ("npz", "speech-commands"), "keep": ("npz",), "noise": ("npz",)}
        for name, sets in own.items():
            value = getattr(self, name)
            _check(
                not value or self.set in sets,
                f"data.{name}",
                f"left out unless data.set is {' or '.join(sets)}",
                value,
            )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to examples while training, anew in every epoch. Nothing without numbers.

    Rows of a recording are frames (time), columns are mel bands.
    """

    rotate_degrees: float = 0.0
    """Pictures: largest rotation."""
    zoom: float = 0.0
    """Pictures: largest change of size, as a part of it; also shears by as much."""
    shift: float = 0.0
    """Pictures: largest shift in pixels, both ways."""
    shift_frames: int = 0
    """Recordings: largest shift in frames; what is missing repeats the first or last frame."""
    gain_db: float = 0.0
    """Recordings: largest change of loudness."""
    noise: float = 0.0
    """Recordings: part of the examples to which noise is added."""
    noise_snr_db: tuple[float, float] = (0.0, 20.0)
    """Recordings: ratio of word to noise, from and to."""
    mask_frames: int = 0
    """Recordings: a stretch of up to as many frames is blanked out (SpecAugment)."""
    mask_bands: int = 0
    """Recordings: a stretch of up to as many bands is blanked out."""
    masks: int = 1
    """Recordings: stretches of either kind."""
    mixup: float = 0.0
    """Parameter of the beta distribution from which shares of mixed examples come; 0: none."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, tuple):
                _check_range(f"augment.{entry.name}", value, 0)
        _check_range("augment.noise", self.noise, 0, 1)
        _check_range("augment.zoom", self.zoom, 0, 0.9)
        low, high = self.noise_snr_db
        _check(low <= high, "augment.noise_snr_db", "two numbers in ascending order", [low, high])


@dataclass(frozen=True, kw_only=True)
class LayerRecipe:
    """A layer with its sparsity, pooling and winners."""

    kind: Literal["conv", "linear"]
    units: int
    """Output channels or units."""
    window: int = 5
    """`conv`: rows and columns of the kernels."""
    padding: int = 0
    """`conv`: positions added around the map."""
    pool: int = 1
    """`conv`: rows and columns of the max-pooling window."""
    mask: Literal["complementary", "unstructured", "n:m"] = "complementary"
    """How weights are chosen that may be other than zero."""
    ways: int = 1
    """`complementary`: kernels of a set. 1: a dense layer."""
    nonzeros: int = 0
    """Weights of a kernel; 0: as many as `ways` leaves, or all."""
    n: int = 0
    m: int = 0
    """`n:m`: n weights of every m."""
    winners: int = 0
    """Winners (k of k-WTA): among channels at a position (`conv`), in all (`linear`); 0: none."""
    dropout: float = 0.0
    """Part of the activations that are dropped while training."""

    def __post_init__(self) -> None:
        _check_range("layer.units", self.units, 1)
        _check_range("layer.window", self.window, 1)
        _check_range("layer.padding", self.padding, 0)
        _check_range("layer.pool", self.pool, 1)
        _check_range("layer.ways", self.ways, 1)
        _check(
            self.units % self.ways == 0,
            "layer.ways",
            f"a number that divides the {self.units} units",
            self.ways,
        )
        _check_range("layer.nonzeros", self.nonzeros, 0)
        _check_range("layer.dropout", self.dropout, 0, 0.95)
        _check_range("layer.winners (k of k-WTA)", self.winners, 0, self.units)
        _check(
            self.mask == "n:m" or self.n == self.m == 0,
            "layer.n and layer.m",
            "left out unless mask is n:m",
            [self.n, self.m],
        )
        _check(
            self.mask == "complementary" or self.ways == 1,
            "layer.ways",
            "1 unless mask is complementary",
            self.ways,
        )
        _check(
            self.mask != "n:m" or self.nonzeros == 0,
            "layer.nonzeros",
            "left out where mask is n:m",
            self.nonzeros,
        )
        _check(
            self.kind == "conv" or self.pool == 1, "layer.pool of a linear layer", "1", self.pool
        )


@dataclass(frozen=True, kw_only=True)
class DynamicMasks:
    """Weights that are dropped and regrown while training; sets stay complementary."""

    every: int = 0
    """Batches between two changes; 0: masks stay as they are."""
    fraction: float = 0.3
    """Part of the weights dropped in the first change; falls to 0 along a cosine."""
    until: float = 0.75
    """Part of the training after which masks stay."""
    regrow: Literal["gradient", "random"] = "gradient"
    """How new places are chosen."""

    def __post_init__(self) -> None:
        _check_range("dynamic.every", self.every, 0)
        _check_range("dynamic.fraction", self.fraction, 0, 1)
        _check_range("dynamic.until", self.until, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Learning from the opinion of trained models as well."""

    teacher: str | tuple[str, ...] = ""
    """Folder of a finished training, or a list of them, of whose outputs the mean is taken."""
    weight: float = 0.5
    """Share of the teachers in the loss."""
    temperature: float = 2.0
    """By which outputs are divided before they are compared."""

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str):
            _check(all(self.teacher), "distillation.teacher", "folders", list(self.teacher))
        _check_range("distillation.weight", self.weight, 0, 1)
        _check(self.temperature > 0, "distillation.temperature", "positive", self.temperature)

    @property
    def teachers(self) -> tuple[Path, ...]:
        """The folders, none if there is no teacher."""
        folders = (self.teacher,) if isinstance(self.teacher, str) else self.teacher
        return tuple(Path(folder) for folder in folders if folder)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network learns, in real numbers first."""

    start: str = ""
    """Folder of a finished training whose network to begin with, in place of a random one. Where
    masks are to have another structure, those are chosen that keep most of its magnitude."""
    epochs: int = 20
    batch: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    """Peak of the one-cycle schedule."""
    warm_up: float = 0.25
    """Part of the training until the peak."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    winners_warm_up: float = 0.0
    """Part of the training in which k falls from all to its value."""
    boost: float = 0.0
    """Strength of boosting at the start."""
    boost_until: float = 0.8
    """Part of the training after which boosting is 0; it falls linearly."""
    patience: int = 0
    """Epochs without a better validation accuracy after which training ends; 0: never."""
    choose: Literal["best", "last"] = "best"
    """Which epoch's network is kept, in real numbers and after rounding: the best on validation
    data, or the last. Where these are few, the best is often a chance one from the middle."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of products and activations; weights are float32 always."""

    def __post_init__(self) -> None:
        _check_range("training.epochs", self.epochs, 1)
        _check_range("training.batch", self.batch, 2)
        _check(
            0 < self.learning_rate < math.inf,
            "training.learning_rate",
            "positive",
            self.learning_rate,
        )
        for name in ("warm_up", "winners_warm_up", "boost_until"):
            _check_range(f"training.{name}", getattr(self, name), 0, 1)
        _check(0 <= self.momentum < 1, "training.momentum", "in 0..1, without 1", self.momentum)
        _check_range("training.weight_decay", self.weight_decay, 0)
        _check_range("training.label_smoothing", self.label_smoothing, 0, 0.9)
        _check_range("training.boost", self.boost, 0)
        _check_range("training.patience", self.patience, 0)
        _check(
            self.choose == "best" or self.patience == 0,
            "training.patience",
            "0 where the last epoch is chosen",
            self.patience,
        )


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """How the trained network becomes one of integers."""

    epochs: int = 4
    """Epochs of quantisation-aware training; 0: round and be done."""
    learning_rate: float = 2e-3
    """At the start; falls to 0."""
    calibration: int = 1024
    """Examples on which scales are chosen."""

    def __post_init__(self) -> None:
        _check_range("quantisation.epochs", self.epochs, 0)
        _check(self.learning_rate > 0, "quantisation.learning_rate", "positive", self.learning_rate)
        _check_range("quantisation.calibration", self.calibration, 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training gives, but for the data itself."""

    name: str
    data: DataSource
    layer: tuple[LayerRecipe, ...]
    seed: int = 1
    augment: Augmentation = field(default_factory=Augmentation)
    dynamic: DynamicMasks = field(default_factory=DynamicMasks)
    distillation: Distillation = field(default_factory=Distillation)
    training: Training = field(default_factory=Training)
    quantisation: Quantisation = field(default_factory=Quantisation)

    def __post_init__(self) -> None:
        # Files are named after it.
        _check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name) is not None,
            "name",
            "letters, digits, - and _",
            self.name,
        )
        _check_range("seed", self.seed, 0, 2**32 - 1)
        _check(len(self.layer) > 0, "layer", "a list of at least one layer", [])
        kinds = [layer.kind for layer in self.layer]
        _check(kinds == sorted(kinds), "layer", "convolutions first, then linear layers", kinds)
        _check(
            self.layer[-1].winners == 0, "winners of the last layer", "0", self.layer[-1].winners
        )

    @property
    def trainings(self) -> tuple[Path, ...]:
        """Folders of the finished trainings that this one needs."""
        start = (Path(self.training.start),) if self.training.start else ()
        return (*start, *self.distillation.teachers)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data; `parse_recipe` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path : Path
        A TOML file.
    overrides : sequence of str
        Changes, like `training.epochs=3` or `layer.0.winners=8`; values are TOML.

    Raises
    ------
    TrainingError
        Naming the file and what is wrong with it.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        _override(data, override)
    try:
        return parse_recipe(data)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from error


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data.

    Raises
    ------
    TrainingError
        Naming the field that is unknown, missing, of the wrong type or out of range.
    """
    return _parse(Recipe, data, "")


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    if not equals or not all(names):
        raise TrainingError(f"a change must look like training.epochs=3, not {text!r}")
    place: Any = data
    for name in names[:-1]:
        if isinstance(place, list):
            place = place[_index(place, name, text)]
        else:
            place = place.setdefault(name, {})
        if not isinstance(place, (dict, list)):
            raise TrainingError(f"{text!r} changes a field of {name}, which has none")
    if isinstance(place, list):
        place[_index(place, names[-1], text)] = parsed
    else:
        place[names[-1]] = parsed


def _index(items: list[Any], name: str, text: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise TrainingError(f"{text!r} must count entries from 0 to {len(items) - 1}, not {name!r}")
    return int(name)


def _parse(cls: type[_Table], data: object, path: str) -> _Table:
    where = path or "the recipe"
    if not isinstance(data, Mapping):
        raise TrainingError(f"{where} must be a table, not {data!r}")
    known = {entry.name: entry for entry in fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise TrainingError(f"{where} has no field {name!r}; {hint}")
    missing = [
        name
        for name, entry in known.items()
        if name not in data
        and entry.default is dataclasses.MISSING
        and entry.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise TrainingError(f"{where} needs {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    values = {
        name: _convert(hints[name], value, f"{path}.{name}" if path else name)
        for name, value in data.items()
    }
    try:
        return cls(**values)
    except TrainingError as error:
        # Tables of a list all have the same name.
        raise TrainingError(f"{path}: {error}" if path[-1:].isdigit() else str(error)) from error


def _convert(kind: Any, value: Any, path: str) -> Any:
    """A value as the type of its field."""
    origin = typing.get_origin(kind)
    if origin is types.UnionType:
        one, several = typing.get_args(kind)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            (value,) = value  # the same recipe, so that either form resumes the other
        return _convert(several if isinstance(value, (list, tuple)) else one, value, path)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise TrainingError(f"{path} must be one of {', '.join(choices)}, not {value!r}")
        return value
    if origin is tuple:
        element, *rest = typing.get_args(kind)
        if not isinstance(value, (list, tuple)):
            raise TrainingError(f"{path} must be a list, not {value!r}")
        if rest != [...] and len(value) != 1 + len(rest):
            raise TrainingError(f"{path} must have {1 + len(rest)} entries, not {len(value)}")
        return tuple(_convert(element, item, f"{path}.{i}") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _parse(kind, value, path)
    accepted: Any = int | float if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
        raise TrainingError(f"{path} must be {names.get(kind, str(kind))}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise TrainingError(f"{path} must be finite, not {value!r}")
    return float(value) if kind is float else value
