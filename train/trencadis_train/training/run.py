"""A training in a folder that survives interruptions, whatever kind of network is trained.

A training has two phases: `float` learns in real numbers, `integers` goes on from its best network
with the rounding of the hardware. After every epoch the state is written to a checkpoint; a
training that died goes on from there and gives what it would have given.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe, differences, parse_recipe
from trencadis_train.training.checkpoint import Checkpoint, Framework
from trencadis_train.training.metrics import EpochMetrics, write_curve
from trencadis_train.training.score import DivergedError, Score
from trencadis_train.training.trainable import FLOAT, INTEGERS, PHASES, State, Trainable, Trained

__all__ = ["CHECKPOINT", "OnBatch", "OnEpoch", "TrainingRun"]

CHECKPOINT = "checkpoint.safetensors"
CURVE = "metrics.csv"

MAX_LOSS = 1e6
"""Cross-entropy of a network that has diverged: its outputs are in the millions."""

Result = TypeVar("Result")

OnEpoch = Callable[[EpochMetrics], None]
OnBatch = Callable[[str, int, float], None]


@dataclass
class _Progress:
    """State of a training, but for the network and its optimiser."""

    phase: str = FLOAT
    epoch: int = 0
    """Epochs of the phase that are done."""
    best: State = field(default_factory=dict)
    """Best network of this phase; empty before there is one."""
    best_score: Score | None = None
    best_epoch: int = 0
    float_best: State = field(default_factory=dict)
    """Best network of real numbers, once that phase is over."""
    float_score: Score | None = None
    rows: list[EpochMetrics] = field(default_factory=list)


class TrainingRun(Generic[Result]):
    """Loops over phases and epochs of a training, and keeps it in a folder.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    trainable : Trainable
        The network, not begun.
    folder : Path, optional
        Where checkpoints, metrics and results go; it is made if it is not there. Nothing is
        written without it.
    resume : bool
        Go on from the folder's checkpoint, if it has one.
    framework : str
        Framework of the tensors that `trainable` takes: `pt` or `numpy`.
    on_epoch : callable
        Called with the metrics of every epoch; may raise to stop the training.
    on_batch : callable
        Called with phase, epoch and the part of the epoch that is done.

    Raises
    ------
    TrainingError
        If the folder holds another training.
    """

    def __init__(
        self,
        recipe: Recipe,
        trainable: Trainable[Result],
        folder: Path | None = None,
        *,
        resume: bool = False,
        framework: Framework = "pt",
        on_epoch: OnEpoch = lambda row: None,
        on_batch: OnBatch = lambda phase, epoch, part: None,
    ) -> None:
        self._recipe = recipe
        self._trainable = trainable
        self._folder = folder
        self._framework: Framework = framework
        self._on_epoch = on_epoch
        self._on_batch = on_batch
        self._progress = self._start(resume)

    @property
    def trainable(self) -> Trainable[Result]:
        """The network that is trained."""
        return self._trainable

    def run(self) -> Result:
        """Train until the end.

        Raises
        ------
        DivergedError
            If the loss is not finite, or over `MAX_LOSS`.
        """
        progress, trainable = self._progress, self._trainable
        if progress.phase == FLOAT:
            self._run_phase(patience=self._recipe.training.patience)
            trainable.advance(progress.best)
            progress.float_best, progress.float_score = progress.best, progress.best_score
            progress.phase, progress.epoch = INTEGERS, 0
            progress.best, progress.best_score, progress.best_epoch = {}, None, 0
            self._record(Score(0.0, 0.0), 0.0)
        self._run_phase()
        assert progress.float_score is not None
        assert progress.best_score is not None
        trained = Trained(
            progress.float_best,
            progress.float_score,
            progress.best,
            progress.best_score,
            tuple(progress.rows),
        )
        return trainable.export(trained, self._folder)

    def _run_phase(self, patience: int = 0) -> None:
        progress = self._progress
        while progress.epoch < self._trainable.epochs(progress.phase):
            waited = progress.epoch - progress.best_epoch
            if patience and progress.best and waited >= patience:
                break
            self._record(*self._epoch())

    def _epoch(self) -> tuple[Score, float]:
        """Train for an epoch; its score, and the seconds it took."""
        progress = self._progress
        epoch = progress.epoch + 1

        def on_part(part: float) -> None:
            self._on_batch(progress.phase, epoch, part)

        started = time.monotonic()
        try:
            score = self._trainable.step(progress.phase, progress.epoch, on_part)
        except DivergedError as error:
            raise DivergedError(f"phase {progress.phase!r}, epoch {epoch}: {error}") from error
        progress.epoch = epoch
        return score, time.monotonic() - started

    def _record(self, score: Score, seconds: float) -> None:
        """Validate, keep the best, write everything down."""
        progress, trainable = self._progress, self._trainable
        found = trainable.validate()
        # The last step of an epoch may do it, and huge outputs are as useless as NaN.
        if not found.loss < MAX_LOSS:
            raise DivergedError(
                f"phase {progress.phase!r}, epoch {progress.epoch}: the loss on validation data "
                f"became {found.loss}; lower the learning_rate of this phase"
            )
        old = progress.best_score
        best = trainable.eligible(progress.phase, progress.epoch) and (
            old is None or (found.accuracy, -found.loss) > (old.accuracy, -old.loss)
        )
        if best:
            progress.best = trainable.network()
            progress.best_score, progress.best_epoch = found, progress.epoch
        settings = trainable.settings()
        row = EpochMetrics(
            phase=progress.phase,
            epoch=progress.epoch,
            learning_rate=settings.learning_rate,
            winners=settings.winners,
            boost=settings.boost,
            loss=score.loss,
            accuracy=score.accuracy,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            best=best,
            seconds=seconds,
        )
        progress.rows.append(row)
        if self._folder is not None:
            self._save(self._folder)
        self._on_epoch(row)

    def _save(self, folder: Path) -> None:
        progress = self._progress
        tensors = {
            **_prefixed("model", self._trainable.network()),
            **_prefixed("optimizer", self._trainable.optimiser()),
            **_prefixed("best", progress.best),
            **_prefixed("float", progress.float_best),
        }
        data = {
            "recipe": self._recipe.to_dict(),
            **self._trainable.fingerprint(),
            "phase": progress.phase,
            "epoch": progress.epoch,
            "best_score": _plain(progress.best_score),
            "best_epoch": progress.best_epoch,
            "float_score": _plain(progress.float_score),
            "rows": [asdict(row) for row in progress.rows],
        }
        write_curve(folder / CURVE, progress.rows)
        Checkpoint(tensors, data).save(folder / CHECKPOINT)

    def _start(self, resume: bool) -> _Progress:
        path = None if self._folder is None else self._folder / CHECKPOINT
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise TrainingError(
                    f"{path.parent}: cannot be made: {error.strerror}; choose another folder"
                ) from error
            if path.exists() and not resume:
                raise TrainingError(
                    f"{path.parent}: holds a training already; go on with it by --resume, or "
                    "choose another folder"
                )
        if path is None or not path.exists():
            self._trainable.begin()
            return _Progress()
        checkpoint = Checkpoint.load(path, self._framework)
        try:
            return self._restored(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            if isinstance(error, TrainingError):
                raise TrainingError(f"{path}: {error}") from error
            text = " ".join(str(error).split())
            raise TrainingError(
                f"{path}: not a usable checkpoint ({text}); delete it to start anew"
            ) from error

    def _restored(self, checkpoint: Checkpoint) -> _Progress:
        data = checkpoint.data
        # Parsed, so that fields that came later have their defaults.
        theirs, ours = parse_recipe(data["recipe"]).to_dict(), self._recipe.to_dict()
        if theirs != ours:
            names = ", ".join(differences(theirs, ours))
            raise TrainingError(
                f"was made with another recipe, which differs in {names}; restore it, or choose "
                "another folder"
            )
        for name, value in self._trainable.fingerprint().items():
            if name not in data:
                raise TrainingError("was made by an older version; delete it and train again")
            if data[name] != value:
                raise TrainingError(_CHANGED[name])
        phase = str(data["phase"])
        if phase not in PHASES:
            raise ValueError(f"its phase is {phase!r}")
        self._trainable.restore(phase, checkpoint.part("model"), checkpoint.part("optimizer"))
        return _Progress(
            phase=phase,
            epoch=int(data["epoch"]),
            best=checkpoint.part("best"),
            best_score=_score(data["best_score"]),
            best_epoch=int(data["best_epoch"]),
            float_best=checkpoint.part("float"),
            float_score=_score(data["float_score"]),
            rows=[EpochMetrics(**row) for row in data["rows"]],
        )


_CHANGED = {
    "data": "was made with other data; restore them, or choose another folder",
    "teachers": "was made with other teachers in the same folders; restore them, or choose another "
    "folder",
}


def _plain(score: Score | None) -> dict[str, float] | None:
    return None if score is None else asdict(score)


def _score(data: Mapping[str, Any] | None) -> Score | None:
    return None if data is None else Score(**data)


def _prefixed(prefix: str, tensors: State) -> dict[str, Any]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
