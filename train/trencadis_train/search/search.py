"""Search for recipes that are accurate and sparse at once. The only module that needs Optuna.

Every trial begins short. The best of the short trials are trained again for longer, the best of
those longer still, up to the epochs of the recipe (successive halving; "best" is by fronts, since
there are two metrics). Trials live in a storage that several processes and machines share; none of
them leads, each takes what is to be done next.
"""

import csv
import hashlib
import io
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from trencadis_format.files import write_atomically
from trencadis_train.errors import TrainingError
from trencadis_train.search.space import Dimension, Range, Value

__all__ = [
    "Found",
    "Search",
    "SearchPlan",
    "Trains",
    "fronts",
    "open_storage",
    "quiet",
    "write_found",
]

FAILURES = 12
"""Trials that fail, with none that succeeds, before a search gives up."""


class Trains(Protocol):
    """Function that trains a network for a search."""

    def density(self, values: Mapping[str, Value]) -> float:
        """Share of weights that may be other than zero, without training."""
        ...

    def accuracy(self, values: Mapping[str, Value], epochs: int, *, last: bool) -> float:
        """Validation accuracy after so many epochs.

        Parameters
        ----------
        values : mapping of str to value
            Fields of the recipe that are other than it has them.
        epochs : int
            Epochs of training.
        last : bool
            The result is final, so that of integers counts; otherwise only the ranking matters.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """Space of a search, and what is good enough.

    Attributes
    ----------
    name : str
        Name of the search, in its storage.
    recipe : str
        Digest of all that is not varied; a storage is never used for two recipes.
    space : tuple of Dimension
        What is varied.
    least_accuracy, most_density : float
        Thresholds. A network that is denser is not trained at all.
    epochs : tuple of int
        Epochs of every stage, ascending.
    promoted : int
        One of so many trials of a stage goes on to the next.

    Raises
    ------
    TrainingError
        If a number is out of range.
    """

    name: str
    recipe: str
    space: tuple[Dimension, ...]
    least_accuracy: float
    most_density: float
    epochs: tuple[int, ...]
    promoted: int = 4

    def __post_init__(self) -> None:
        fields = [dimension.field for dimension in self.space]
        if not fields or len(set(fields)) < len(fields):
            raise TrainingError(f"fields to vary must be some, all different, not {fields}")
        if not 0 <= self.least_accuracy <= 1 or not 0 < self.most_density <= 1:
            raise TrainingError(
                "thresholds must be parts of 1, not accuracy "
                f"{self.least_accuracy} and density {self.most_density}"
            )
        rising = all(a < b for a, b in zip(self.epochs, self.epochs[1:], strict=False))
        if not self.epochs or self.epochs[0] < 1 or not rising:
            raise TrainingError(
                f"epochs of the stages must rise from at least 1, not {list(self.epochs)}"
            )
        if self.promoted < 2:
            raise TrainingError(
                f"promoted must be at least 2, one of so many goes on, not {self.promoted}"
            )

    @property
    def digest(self) -> str:
        """Differs when trials cannot be compared."""
        data = {**asdict(self), "space": [str(dimension) for dimension in self.space]}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Found:
    """A trial that has ended, or is running.

    Attributes
    ----------
    stage, number : int
        Stage from 0 on, and number of the trial in it.
    origin : int
        Number of the trial in the stage before; -1 in stage 0.
    epochs : int
        Epochs of training.
    state : str
        `complete`, `running`, `failed`, or `dense`: over the threshold, so not trained.
    accuracy, density : float or None
        Accuracy on validation data, and density of the masks.
    meets : bool
        In the last stage and within both thresholds.
    front : bool
        In the last stage, and no other trial of it is both more accurate and sparser.
    seconds : float
        Seconds that the trial took.
    error : str
        Why it failed.
    values : mapping of str to value
        Fields of the recipe.
    """

    stage: int
    number: int
    origin: int
    epochs: int
    state: str
    accuracy: float | None
    density: float | None
    meets: bool
    front: bool
    seconds: float
    error: str
    values: Mapping[str, Value]


class Search:
    """One process of a search.

    Parameters
    ----------
    plan : SearchPlan
        The same for all processes.
    storage : optuna.storages.BaseStorage
        Where trials are.
    trains : Trains
        Trains networks.
    seed, worker : int
        Seed, and number of the worker: different for processes that work at the same time.
    on_trial : callable
        Called with every trial that this process has ended.

    Raises
    ------
    TrainingError
        If the storage holds another search of this name.
    """

    def __init__(
        self,
        plan: SearchPlan,
        storage: optuna.storages.BaseStorage,
        trains: Trains,
        *,
        seed: int,
        worker: int = 0,
        on_trial: Callable[[Found], None] = lambda found: None,
    ) -> None:
        self._plan = plan
        self._trains = trains
        self._on_trial = on_trial
        self._distributions = {
            dimension.field: _distribution(dimension) for dimension in plan.space
        }
        self._studies = [self._open(stage, storage) for stage in range(len(plan.epochs))]
        # With the number of trials, or a search that goes on would try its first recipes again.
        mixed = np.random.SeedSequence([seed, worker, len(self._studies[0].trials)])
        sampler = optuna.samplers.TPESampler(seed=int(mixed.generate_state(1)[0]))
        self._studies[0].sampler = sampler

    def run(self, trials: int) -> list[Found]:
        """Try so many recipes, all processes together, and train the best of them to the end.

        Returns
        -------
        list of Found
            All trials of the search, of this process and others.

        Raises
        ------
        TrainingError
            If all trials fail.
        """
        while True:
            # Later stages first: a search that is stopped early has something to show.
            for stage in reversed(range(1, len(self._studies))):
                claimed = self._claim(stage)
                if claimed is not None:
                    self._try(stage, *claimed, None)
                    break
            else:
                if len(self._going(0)) >= trials:
                    return self.found()
                trial = self._studies[0].ask(self._distributions)
                self._try(0, trial.number, trial.params, trial)
                self._check_failures()

    def found(self) -> list[Found]:
        """All trials of the search so far."""
        result: list[Found] = []
        for stage, study in enumerate(self._studies):
            last = stage == len(self._studies) - 1
            trials = study.get_trials(deepcopy=False)
            complete = [trial.number for trial in trials if _trained(trial)]
            scores = np.array([trials[number].values for number in complete]).reshape(-1, 2)
            first = {n for n, rank in zip(complete, fronts(scores), strict=True) if rank == 0}
            result += [
                self._describe(stage, trial, front=last and trial.number in first)
                for trial in trials
            ]
        return result

    def reset_running(self) -> int:
        """Give up trials that a process has left running when it died; how many there were.

        Call it only while no other process works on the search.
        """
        count = 0
        for study in self._studies:
            for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
                study.tell(trial.number, state=TrialState.FAIL)
                count += 1
        return count

    def _open(self, stage: int, storage: optuna.storages.BaseStorage) -> optuna.Study:
        name = f"{self._plan.name}/{stage}"
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            directions=["maximize", "minimize"],
        )
        known = study.user_attrs.get("plan")
        if known is None:
            study.set_user_attr("plan", self._plan.digest)
        elif known != self._plan.digest:
            raise TrainingError(
                f"the storage holds another search {self._plan.name!r}, with another recipe, "
                "other data, space, thresholds or stages; choose another name or storage"
            )
        return study

    def _going(self, stage: int) -> list[FrozenTrial]:
        """Trials of a stage but those that were stopped, which are to be done again."""
        study = self._studies[stage]
        return [
            trial
            for trial in study.get_trials(deepcopy=False)
            if trial.state != TrialState.FAIL or _error_name(trial.number) in study.user_attrs
        ]

    def _claim(self, stage: int) -> tuple[int, dict[str, Any]] | None:
        """Take the best trial of the stage before that has not gone on yet, if one may."""
        before, study = self._studies[stage - 1], self._studies[stage]
        for trial in _best(before.get_trials(deepcopy=False), self._plan.promoted):
            if any(_origin(other) == trial.number for other in self._going(stage)):
                continue
            token = uuid.uuid4().hex
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING,
                    params=trial.params,
                    distributions=trial.distributions,
                    user_attrs={"origin": trial.number, "token": token},
                )
            )
            # Another process may have done the same meanwhile: the one that was first has it.
            claims = [other for other in self._going(stage) if _origin(other) == trial.number]
            own = next(claim for claim in claims if claim.user_attrs["token"] == token)
            if own.number == min(claim.number for claim in claims):
                return own.number, trial.params
            study.tell(own.number, state=TrialState.FAIL)
        return None

    def _try(
        self, stage: int, number: int, values: Mapping[str, Value], new: optuna.Trial | None
    ) -> None:
        """Train, and write down what came of it, even when the process is being stopped."""
        study, plan = self._studies[stage], self._plan
        scores: list[float] | None = None
        state = TrialState.FAIL
        try:
            density = self._trains.density(values)
            if new is not None:
                new.set_constraint("density", density - plan.most_density)
            accuracy = 0.0
            if density <= plan.most_density:
                last = stage == len(plan.epochs) - 1
                accuracy = self._trains.accuracy(values, plan.epochs[stage], last=last)
            state, scores = TrialState.COMPLETE, [accuracy, density]
        except TrainingError as error:
            study.set_user_attr(_error_name(number), str(error))
        finally:
            study.tell(number, scores, state=state)
        self._on_trial(self._describe(stage, study.trials[number], front=False))

    def _check_failures(self) -> None:
        trials = self._studies[0].get_trials(deepcopy=False)
        errors = self._studies[0].user_attrs
        failed = [trial for trial in trials if _error_name(trial.number) in errors]
        if len(failed) >= FAILURES and not any(t.state == TrialState.COMPLETE for t in trials):
            reason = errors[_error_name(failed[-1].number)]
            raise TrainingError(f"the first {len(failed)} trials failed, the last since {reason}")

    def _describe(self, stage: int, trial: FrozenTrial, *, front: bool) -> Found:
        plan = self._plan
        accuracy, density = trial.values if trial.values else (None, None)
        state = {TrialState.RUNNING: "running", TrialState.FAIL: "failed"}.get(
            trial.state, "complete"
        )
        if state == "complete" and not _trained(trial):
            state, accuracy = "dense", None
        within = (
            accuracy is not None
            and density is not None
            and accuracy >= plan.least_accuracy
            and density <= plan.most_density
        )
        return Found(
            stage=stage,
            number=trial.number,
            origin=_origin(trial),
            epochs=plan.epochs[stage],
            state=state,
            accuracy=accuracy,
            density=density,
            meets=within and stage == len(plan.epochs) - 1,
            front=front,
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            error=str(self._studies[stage].user_attrs.get(_error_name(trial.number), "")),
            values=dict(trial.params),
        )


def fronts(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Front of every trial.

    It is 0 if no other trial is at least as good in both metrics and better in one, 1 if only
    trials of front 0 are, and so on.

    Parameters
    ----------
    scores : float array, shape (trials, 2)
        Accuracy, the more the better, and density, the less the better.
    """
    signed = scores * [1, -1]
    better = (signed[:, None] >= signed).all(axis=2) & (signed[:, None] > signed).any(axis=2)
    ranks = np.full(len(scores), -1, np.int64)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        ranks[left & ~(better & left[:, None]).any(axis=0)] = rank
        rank += 1
    return ranks


def quiet() -> None:
    """Keep Optuna and its databases from reporting what this package reports itself."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def open_storage(where: str) -> optuna.storages.BaseStorage:
    """A storage: a journal in a file, or a database by its URL (`sqlite:///FILE`).

    Raises
    ------
    TrainingError
        If it cannot be opened.
    """
    try:
        storage: optuna.storages.BaseStorage
        if "://" in where:
            storage = optuna.storages.RDBStorage(where)
        else:
            _check_journal(Path(where))
            storage = JournalStorage(JournalFileBackend(where))
        storage.get_all_studies()  # which reads it
        return storage
    except Exception as error:  # databases raise exceptions of their own
        text = " ".join(str(error).split()) or type(error).__name__
        raise TrainingError(f"{where}: not a storage of trials ({text[:200]})") from error


def _check_journal(path: Path) -> None:
    """Refuse a file that does not begin as a journal does, before anything is added to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with path.open("rb") as file:
            first = file.readline()
        if first and not isinstance(json.loads(first), dict):
            raise ValueError("its first line is no record")


def write_found(path: Path, found: Sequence[Found]) -> None:
    """Write trials as CSV; the file appears complete or not at all."""
    fields = list(dict.fromkeys(field for trial in found for field in trial.values))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name in Found.__dataclass_fields__ if name != "values"]
    writer.writerow([*names, *fields])
    for trial in found:
        cells = [getattr(trial, name) for name in names]
        # Fields of the recipe are written exactly, so that a trial can be repeated.
        values = [trial.values.get(field) for field in fields]
        rounded = [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells]
        writer.writerow([*rounded, *values])
    write_atomically(path, text.getvalue().encode())


def _distribution(dimension: Dimension) -> BaseDistribution:
    if not isinstance(dimension, Range):
        return CategoricalDistribution(dimension.values)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=dimension.log)
    return FloatDistribution(low, high, log=dimension.log)


def _best(trials: Sequence[FrozenTrial], promoted: int) -> list[FrozenTrial]:
    """The trials of a stage that may go on: one of so many, the first fronts first."""
    trained = [trial for trial in trials if _trained(trial)]
    if not trained:
        return []
    scores = np.array([trial.values for trial in trained])
    order = np.lexsort((-scores[:, 0], fronts(scores)))
    return [trained[int(i)] for i in order[: len(trained) // promoted]]


def _trained(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values())


def _origin(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("origin", -1))


def _error_name(number: int) -> str:
    """Name under which a study keeps why a trial failed."""
    return f"error {number}"
