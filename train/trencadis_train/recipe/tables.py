"""Tables of a recipe: every field with its default and its limits."""

import dataclasses
import json
import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from trencadis_train.recipe.checks import check, check_range
from trencadis_train.recipe.sparse import SparseTraining

__all__ = [
    "Augmentation",
    "DataSource",
    "Distillation",
    "DynamicMasks",
    "LayerRecipe",
    "Quantisation",
    "Recipe",
    "Training",
]


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Source of the examples."""

    set: Literal["digits", "fashion-mnist", "idx", "madelon", "npz", "speech-commands"]
    """`digits`: inside a package. `idx`: a folder with the four files of MNIST or Fashion-MNIST.
    `npz`: one file. `speech-commands`: the folder of the official data set.
    `fashion-mnist`, `madelon`: fetched into the cache, by apt-get and by pip."""
    path: str = ""
    """The folder or file; the command line may give another."""
    words: tuple[str, ...] = ()
    """Classes to keep, in this order; all without it. Not for `digits` and `idx`."""
    keep: str = ""
    """`npz`: a boolean array of the file; only examples where it is true are kept."""
    noise: str = ""
    """`npz`: the class whose recordings serve as noise."""
    validation: float = 0.1
    """`idx`, `fashion-mnist`, `madelon`: share of the training examples that validate."""

    def __post_init__(self) -> None:
        check_range("data.validation", self.validation, 0.01, 0.5)
        check(len(set(self.words)) == len(self.words), "data.words", "all different", self.words)
        own = {"words": ("npz", "speech-commands"), "keep": ("npz",), "noise": ("npz",)}
        for name, sets in own.items():
            value = getattr(self, name)
            check(
                not value or self.set in sets,
                f"data.{name}",
                f"left out unless data.set is {' or '.join(sets)}",
                value,
            )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation of examples while training, anew in every epoch. Nothing without numbers.

    Rows of a recording are frames (time), columns are mel bands.
    """

    rotate_degrees: float = 0.0
    """Pictures: largest rotation."""
    zoom: float = 0.0
    """Pictures: largest change of size, as a part of it; also shears by as much."""
    shift: float = 0.0
    """Pictures: largest shift in pixels, both ways."""
    flip: float = 0.0
    """Pictures: part of the examples that are mirrored left to right."""
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
                check_range(f"augment.{entry.name}", value, 0)
        check_range("augment.noise", self.noise, 0, 1)
        check_range("augment.flip", self.flip, 0, 1)
        check_range("augment.zoom", self.zoom, 0, 0.9)
        low, high = self.noise_snr_db
        check(low <= high, "augment.noise_snr_db", "two numbers in ascending order", [low, high])


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
    """Choice of the weights that may be other than zero."""
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
        check_range("layer.units", self.units, 1)
        check_range("layer.window", self.window, 1)
        check_range("layer.padding", self.padding, 0)
        check_range("layer.pool", self.pool, 1)
        check_range("layer.ways", self.ways, 1)
        check(
            self.units % self.ways == 0,
            "layer.ways",
            f"a number that divides the {self.units} units",
            self.ways,
        )
        check_range("layer.nonzeros", self.nonzeros, 0)
        check_range("layer.dropout", self.dropout, 0, 0.95)
        check_range("layer.winners (k of k-WTA)", self.winners, 0, self.units)
        check(
            self.mask == "n:m" or self.n == self.m == 0,
            "layer.n and layer.m",
            "left out unless mask is n:m",
            [self.n, self.m],
        )
        check(
            self.mask == "complementary" or self.ways == 1,
            "layer.ways",
            "1 unless mask is complementary",
            self.ways,
        )
        check(
            self.mask != "n:m" or self.nonzeros == 0,
            "layer.nonzeros",
            "left out where mask is n:m",
            self.nonzeros,
        )
        check(self.kind == "conv" or self.pool == 1, "layer.pool of a linear layer", "1", self.pool)


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
    """Choice of new places."""

    def __post_init__(self) -> None:
        check_range("dynamic.every", self.every, 0)
        check_range("dynamic.fraction", self.fraction, 0, 1)
        check_range("dynamic.until", self.until, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Learning from the opinion of trained models as well."""

    teacher: str | tuple[str, ...] = ""
    """Folder of a finished training, or a list of them, of whose outputs the mean is taken."""
    weight: float = 0.5
    """Share of the teachers in the loss."""
    temperature: float = 2.0
    """Divisor of outputs before they are compared."""

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, str):
            check(all(self.teacher), "distillation.teacher", "folders", list(self.teacher))
        check_range("distillation.weight", self.weight, 0, 1)
        check(self.temperature > 0, "distillation.temperature", "positive", self.temperature)

    @property
    def teachers(self) -> tuple[Path, ...]:
        """The folders, none if there is no teacher."""
        folders = (self.teacher,) if isinstance(self.teacher, str) else self.teacher
        return tuple(Path(folder) for folder in folders if folder)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training of the network, in real numbers first."""

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
    """Choice of the epoch that is kept, in real numbers and after rounding: the best on validation
    data, or the last. Where these are few, the best is often a chance one from the middle."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of products and activations; weights are float32 always."""

    def __post_init__(self) -> None:
        check_range("training.epochs", self.epochs, 1)
        check_range("training.batch", self.batch, 2)
        check(
            0 < self.learning_rate < math.inf,
            "training.learning_rate",
            "positive",
            self.learning_rate,
        )
        for name in ("warm_up", "winners_warm_up", "boost_until"):
            check_range(f"training.{name}", getattr(self, name), 0, 1)
        check(0 <= self.momentum < 1, "training.momentum", "in 0..1, without 1", self.momentum)
        check_range("training.weight_decay", self.weight_decay, 0)
        check_range("training.label_smoothing", self.label_smoothing, 0, 0.9)
        check_range("training.boost", self.boost, 0)
        check_range("training.patience", self.patience, 0)
        check(
            self.choose == "best" or self.patience == 0,
            "training.patience",
            "0 where the last epoch is chosen",
            self.patience,
        )


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """Conversion of the trained network to integers."""

    epochs: int = 4
    """Epochs of quantisation-aware training; 0: round and be done."""
    learning_rate: float = 2e-3
    """Learning rate at the start; falls to 0."""
    calibration: int = 1024
    """Examples on which scales are chosen."""

    def __post_init__(self) -> None:
        check_range("quantisation.epochs", self.epochs, 0)
        check(self.learning_rate > 0, "quantisation.learning_rate", "positive", self.learning_rate)
        check_range("quantisation.calibration", self.calibration, 1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a training gives, but for the data itself."""

    name: str
    data: DataSource
    layer: tuple[LayerRecipe, ...]
    seed: int = 1
    engine: Literal["masked", "sparse"] = "masked"
    """`masked`: any layers, weights multiplied with masks. `sparse`: linear layers of which only
    the connections exist, see `[sparse]`."""
    augment: Augmentation = field(default_factory=Augmentation)
    dynamic: DynamicMasks = field(default_factory=DynamicMasks)
    distillation: Distillation = field(default_factory=Distillation)
    training: Training = field(default_factory=Training)
    sparse: SparseTraining = field(default_factory=SparseTraining)
    quantisation: Quantisation = field(default_factory=Quantisation)

    def __post_init__(self) -> None:
        # Files are named after it.
        check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name) is not None,
            "name",
            "letters, digits, - and _",
            self.name,
        )
        check_range("seed", self.seed, 0, 2**32 - 1)
        check(len(self.layer) > 0, "layer", "a list of at least one layer", [])
        kinds = [layer.kind for layer in self.layer]
        check(kinds == sorted(kinds), "layer", "convolutions first, then linear layers", kinds)
        check(self.layer[-1].winners == 0, "winners of the last layer", "0", self.layer[-1].winners)

        check(
            self.engine == "sparse" or self.sparse == SparseTraining(),
            "sparse",
            'left out unless engine = "sparse"',
            "a table",
        )

    @property
    def trainings(self) -> tuple[Path, ...]:
        """Folders of the finished trainings that this one needs."""
        start = (Path(self.training.start),) if self.training.start else ()
        return (*start, *self.distillation.teachers)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data; `parse_recipe` takes it back."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
