"""Training from a recipe to quantised ONNX, in a folder that survives interruptions.

A training has two phases: `float` learns in real numbers, `integers` goes on from its best network
with the rounding of the hardware. After every epoch the state is written to a checkpoint; a
training that died goes on from there and gives what it would have given.
"""

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trencadis_train import schedule
from trencadis_train.augment import Augmenter
from trencadis_train.checkpoint import Checkpoint
from trencadis_train.dynamic import MaskEvolution
from trencadis_train.errors import TrainingError
from trencadis_train.export import export_onnx
from trencadis_train.integers import IntegerNetwork
from trencadis_train.k_winners import KWinners, KWinners2d
from trencadis_train.labelled import Splits
from trencadis_train.layers import SparseConv2d, SparseLinear
from trencadis_train.loop import (
    INPUT_STEPS,
    DivergedError,
    Examples,
    Score,
    evaluate,
    integer_accuracy,
    train_epoch,
)
from trencadis_train.metrics import EpochMetrics, write_curve, write_summary
from trencadis_train.network import build_network
from trencadis_train.objective import Objective
from trencadis_train.optimisers import load_optimizer, make_optimizer, optimizer_tensors
from trencadis_train.plots import draw_curve
from trencadis_train.quantised import QuantisedNetwork
from trencadis_train.recipe import Recipe, parse_recipe
from trencadis_train.start import begin_with

__all__ = ["Finished", "Trainer", "check_fits", "load_finished"]

CHECKPOINT = "checkpoint.safetensors"
FLOAT_MODEL = "float.safetensors"
SUMMARY = "metrics.json"
CURVE = "metrics.csv"
PICTURE = "curves.png"

PHASES = ("float", "integers")

LARGEST_LOSS = 1e6
"""Cross-entropy of a network that has diverged: its outputs are in the millions."""


@dataclass(frozen=True)
class Finished:
    """What a training gave.

    Attributes
    ----------
    model : nn.Sequential
        The best network of real numbers, in evaluation mode.
    network : IntegerNetwork
        The best network of integers; its inputs are bytes as they are.
    summary : mapping
        JSON-ready: recipe, accuracies, sizes, what it was made with.
    """

    model: nn.Sequential
    network: IntegerNetwork
    summary: Mapping[str, Any]


@dataclass
class _State:
    """Where a training stands: everything that a checkpoint holds."""

    phase: str
    epoch: int
    """Epochs of the phase that are done."""
    model: nn.Module
    optimizer: torch.optim.Optimizer
    best: dict[str, torch.Tensor]
    """Best state of `model` in this phase; empty before there is one."""
    best_score: Score | None
    best_epoch: int
    float_best: dict[str, torch.Tensor]
    """Best network of real numbers, once that phase is over."""
    float_score: Score | None
    rows: list[EpochMetrics]


class Trainer:
    """Trains one recipe.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    splits : Splits
        Its data.
    folder : Path, optional
        Where checkpoints, metrics and results go; it is made if it is not there. Nothing is
        written without it.
    device : torch.device
        Where to compute.
    resume : bool
        Go on from the folder's checkpoint, if it has one.
    test : bool
        Measure the chosen networks on the test part at the end. Leave it out as long as choices
        are made.
    on_epoch : callable
        Called with the metrics of every epoch; may raise to stop the training.
    on_batch : callable
        Called with phase, epoch and the part of the epoch that is done.

    Raises
    ------
    TrainingError
        If recipe and data do not fit, or the folder holds another training.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        folder: Path | None = None,
        *,
        device: torch.device | None = None,
        resume: bool = False,
        test: bool = True,
        on_epoch: Callable[[EpochMetrics], None] = lambda row: None,
        on_batch: Callable[[str, int, float], None] = lambda phase, epoch, part: None,
    ) -> None:
        self._recipe = recipe
        self._splits = splits
        self._folder = folder
        self._device = device or torch.device("cpu")
        self._test = test
        self._on_epoch = on_epoch
        self._on_batch = on_batch
        self._train = Examples.on(self._device, splits.train)
        self._validation = Examples.on(self._device, splits.validation)
        if len(splits.classes) < 2:
            raise TrainingError(f"training needs two classes at least, not {splits.classes}")
        rows, columns = splits.train.images.shape[1:]
        self._input_shape = (1, int(rows), int(columns))
        noise = None
        if splits.noise is not None:
            noise = torch.tensor(splits.noise)[:, None].float().to(self._device)
        self._augmenter = Augmenter(recipe.augment, noise)
        self._precision = getattr(torch, recipe.training.precision)
        self._batches = _count_batches(len(self._train), recipe.training.batch)
        self._fingerprint = splits.fingerprint()
        self._objective = self._make_objective()
        self._teachers = [_file_digest(folder) for folder in recipe.distillation.teachers]
        self._state = self._start(resume)

    def run(self) -> Finished:
        """Train until the end.

        Raises
        ------
        DivergedError
            If the loss is not finite, or over `LARGEST_LOSS`.
        """
        state = self._state
        if state.phase == "float":
            self._run_float()
            self._begin_integers()
        self._run_integers()
        return self._finish()

    def _make_objective(self) -> Objective:
        training, distillation = self._recipe.training, self._recipe.distillation
        return Objective(
            training.label_smoothing,
            teachers=[self._load_teacher(folder) for folder in distillation.teachers],
            weight=distillation.weight,
            temperature=distillation.temperature,
        )

    def _load_teacher(self, folder: Path) -> nn.Sequential:
        model, teacher = load_finished(folder)
        units, wanted = teacher.layer[-1].units, self._recipe.layer[-1].units
        if units != wanted:
            raise TrainingError(
                f"{folder}: the teacher has {units} outputs, the recipe's network {wanted}; they "
                "must be equal"
            )
        check_fits(folder, model, self._splits)
        return model.to(self._device)

    def _build(self) -> nn.Sequential:
        torch.manual_seed(self._recipe.seed)
        return build_network(
            self._recipe.layer, self._input_shape, len(self._splits.classes), self._recipe.seed
        )

    def _begin_trained(self, model: nn.Sequential) -> None:
        """Give a network what another training has learnt."""
        folder = Path(self._recipe.training.start)
        source, recipe = load_finished(folder)
        try:
            begin_with(model, self._recipe.layer, source, recipe.layer)
        except TrainingError as error:
            raise TrainingError(f"{folder}: nothing to begin with: {error}") from error

    def _start(self, resume: bool) -> _State:
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
            model = self._build()
            if self._recipe.training.start:
                self._begin_trained(model)
            model.to(self._device)
            optimizer = make_optimizer(model, self._recipe.training)
            return _State("float", 0, model, optimizer, {}, None, 0, {}, None, [])
        checkpoint = Checkpoint.load(path)
        try:
            return self._restored(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, TrainingError):
                raise TrainingError(f"{path}: {error}") from error
            text = " ".join(str(error).split())
            raise TrainingError(
                f"{path}: not a usable checkpoint ({text}); delete it to start anew"
            ) from error

    def _restored(self, checkpoint: Checkpoint) -> _State:
        data = checkpoint.data
        # Parsed, so that fields that came later have their defaults.
        theirs, ours = parse_recipe(data["recipe"]).to_dict(), self._recipe.to_dict()
        if theirs != ours:
            names = ", ".join(_differences(theirs, ours))
            raise TrainingError(
                f"was made with another recipe, which differs in {names}; restore it, or choose "
                "another folder"
            )
        if "teachers" not in data:
            raise TrainingError("was made by an older version; delete it and train again")
        if data["data"] != self._fingerprint:
            raise TrainingError("was made with other data; restore them, or choose another folder")
        if data["teachers"] != self._teachers:
            raise TrainingError(
                "was made with other teachers in the same folders; restore them, or choose another "
                "folder"
            )
        phase = str(data["phase"])
        model: nn.Module = self._build()
        if phase == "integers":
            model = self._quantise(model)
        model.load_state_dict(checkpoint.part("model"))
        model.to(self._device)
        optimizer = self._optimizer(phase, model)
        load_optimizer(optimizer, checkpoint.part("optimizer"))
        return _State(
            phase=phase,
            epoch=int(data["epoch"]),
            model=model,
            optimizer=optimizer,
            best=checkpoint.part("best"),
            best_score=_score(data["best_score"]),
            best_epoch=int(data["best_epoch"]),
            float_best=checkpoint.part("float"),
            float_score=_score(data["float_score"]),
            rows=[EpochMetrics(**row) for row in data["rows"]],
        )

    def _optimizer(self, phase: str, model: nn.Module) -> torch.optim.Optimizer:
        training = self._recipe.training
        if phase == "integers":
            # Batch-norm is folded in: decay would change what the network computes.
            rate = self._recipe.quantisation.learning_rate
            training = replace(training, weight_decay=0.0, learning_rate=rate)
        return make_optimizer(model, training)

    def _quantise(self, model: nn.Module) -> QuantisedNetwork:
        assert isinstance(model, nn.Sequential)
        return QuantisedNetwork(
            model,
            input_shape=self._input_shape,
            input_scale=1 / INPUT_STEPS,
            name=self._recipe.name,
        )

    def _run_float(self) -> None:
        state, training = self._state, self._recipe.training
        evolution = MaskEvolution(
            state.model,
            self._recipe.layer,
            self._recipe.dynamic,
            batches=training.epochs * self._batches,
            seed=self._recipe.seed,
        )
        while state.epoch < training.epochs:
            waited = state.epoch - state.best_epoch
            if training.patience and state.best and waited >= training.patience:
                break
            done = state.epoch * self._batches

            def before(number: int, done: int = done) -> None:
                self._adjust_float((done + number) / (training.epochs * self._batches))
                evolution.before_step(done + number)

            def after(number: int, done: int = done) -> None:
                evolution.after_backward(done + number, state.optimizer)

            # Before k has its value, another network is learning: it must not be the best.
            eligible = (state.epoch + 1) / training.epochs >= training.winners_warm_up
            if training.choose == "last":
                eligible = state.epoch + 1 == training.epochs
            score, seconds = self._epoch(before, after)
            self._adjust_float(state.epoch / training.epochs)
            self._record(score, seconds, eligible=eligible)

    def _adjust_float(self, progress: float) -> None:
        training = self._recipe.training
        _set_rate(self._state.optimizer, schedule.learning_rate(training, progress))
        for module, layer in self._winners():
            module.k = schedule.winners(training, layer, module.units, progress)
            module.boost = schedule.boost(training, progress)

    def _begin_integers(self) -> None:
        """The second phase: from the best network of the first."""
        state = self._state
        model = self._float_model(state.best)
        quantised = self._quantise(model)
        count = self._recipe.quantisation.calibration
        # Chosen at random, since data sets may be sorted by class.
        generator = torch.Generator().manual_seed(self._recipe.seed)
        chosen = torch.randperm(len(self._train), generator=generator)[:count].tolist()
        images = self._train.images[chosen].cpu().float() / INPUT_STEPS
        quantised.calibrate(images.split(256))
        quantised.to(self._device)
        state.float_best, state.float_score = state.best, state.best_score
        state.phase, state.epoch, state.model = "integers", 0, quantised
        state.optimizer = self._optimizer("integers", quantised)
        state.best, state.best_score, state.best_epoch = {}, None, 0
        self._record(Score(0.0, 0.0), 0.0, eligible=self._may_keep_integers(0))

    def _run_integers(self) -> None:
        state, epochs = self._state, self._recipe.quantisation.epochs
        while state.epoch < epochs:
            done = state.epoch * self._batches

            def before(number: int, done: int = done) -> None:
                self._adjust_integers((done + number) / (epochs * self._batches))

            score, seconds = self._epoch(before, lambda number: None)
            self._adjust_integers(state.epoch / epochs)
            self._record(score, seconds, eligible=self._may_keep_integers(state.epoch))

    def _may_keep_integers(self, epoch: int) -> bool:
        """Whether the network of integers of this epoch may be the one that is kept."""
        last = self._recipe.quantisation.epochs
        return self._recipe.training.choose == "best" or epoch == last

    def _adjust_integers(self, progress: float) -> None:
        quantisation = self._recipe.quantisation
        rate = quantisation.learning_rate * (1 + np.cos(np.pi * progress)) / 2
        _set_rate(self._state.optimizer, max(float(rate), 1e-5 * quantisation.learning_rate))

    def _epoch(
        self, before: Callable[[int], None], after: Callable[[int], None]
    ) -> tuple[Score, float]:
        """Train for an epoch; its score, and the seconds it took."""
        state, recipe = self._state, self._recipe
        epoch = state.epoch

        def before_step(number: int) -> None:
            before(number)
            self._on_batch(state.phase, epoch + 1, number / self._batches)

        started = time.monotonic()
        try:
            score = train_epoch(
                state.model,
                state.optimizer,
                self._train,
                batch=recipe.training.batch,
                objective=self._objective,
                augmenter=self._augmenter,
                mixup=recipe.augment.mixup,
                precision=self._precision if state.phase == "float" else torch.float32,
                seed=_epoch_seed(recipe.seed, state.phase, epoch),
                before_step=before_step,
                after_backward=after,
            )
        except DivergedError as error:
            raise DivergedError(f"phase {state.phase!r}, epoch {epoch + 1}: {error}") from error
        seconds = time.monotonic() - started
        state.epoch += 1
        return score, seconds

    def _record(self, score: Score, seconds: float, *, eligible: bool = True) -> None:
        """Validate, keep the best, write everything down."""
        state = self._state
        found = evaluate(state.model, self._validation)
        # The last step of an epoch may do it, and huge outputs are as useless as NaN.
        if not found.loss < LARGEST_LOSS:
            raise DivergedError(
                f"phase {state.phase!r}, epoch {state.epoch}: the loss on validation data became "
                f"{found.loss}; lower the learning_rate of this phase"
            )
        old = state.best_score
        best = eligible and (
            old is None or (found.accuracy, -found.loss) > (old.accuracy, -old.loss)
        )
        if best:
            state.best = _copied(state.model)
            state.best_score, state.best_epoch = found, state.epoch
        winners = [
            module for module in state.model.modules() if isinstance(module, (KWinners, KWinners2d))
        ]
        row = EpochMetrics(
            phase=state.phase,
            epoch=state.epoch,
            learning_rate=_rate(state.optimizer),
            winners=" ".join(str(module.k) for module in winners),
            boost=winners[0].boost if winners else 0.0,
            loss=score.loss,
            accuracy=score.accuracy,
            validation_loss=found.loss,
            validation_accuracy=found.accuracy,
            best=best,
            seconds=seconds,
        )
        state.rows.append(row)
        if self._folder is not None:
            self._save(self._folder)
        self._on_epoch(row)

    def _save(self, folder: Path) -> None:
        state = self._state
        tensors = {
            **_prefixed("model", state.model.state_dict()),
            **_prefixed("optimizer", optimizer_tensors(state.optimizer)),
            **_prefixed("best", state.best),
            **_prefixed("float", state.float_best),
        }
        data = {
            "recipe": self._recipe.to_dict(),
            "data": self._fingerprint,
            "teachers": self._teachers,
            "phase": state.phase,
            "epoch": state.epoch,
            "best_score": None if state.best_score is None else asdict(state.best_score),
            "best_epoch": state.best_epoch,
            "float_score": None if state.float_score is None else asdict(state.float_score),
            "rows": [asdict(row) for row in state.rows],
        }
        write_curve(folder / CURVE, state.rows)
        Checkpoint(tensors, data).save(folder / CHECKPOINT)

    def _winners(self) -> Iterator[tuple[KWinners | KWinners2d, int]]:
        """k-WTA modules with the k of the recipe."""
        wanted = [layer.winners for layer in self._recipe.layer if layer.winners]
        modules = [
            module
            for module in self._state.model.modules()
            if isinstance(module, (KWinners, KWinners2d))
        ]
        yield from zip(modules, wanted, strict=True)

    def _float_model(self, tensors: Mapping[str, torch.Tensor]) -> nn.Sequential:
        """A network of real numbers on the CPU, in evaluation mode."""
        model = self._build()
        model.load_state_dict(tensors)
        return model.eval()

    def _finish(self) -> Finished:
        state = self._state
        assert isinstance(state.model, QuantisedNetwork)
        model = self._float_model(state.float_best)
        state.model.load_state_dict(state.best)
        state.model.eval()
        # Who uses the network has bytes: pixels, or features.
        network = state.model.integers().taking_bytes()
        summary = self._summary(model, network)
        if self._folder is not None:
            recipe = self._recipe.to_dict()
            data = {
                "recipe": recipe,
                "shape": self._input_shape,
                "classes": self._splits.classes,
            }
            Checkpoint(model.state_dict(), data).save(self._folder / FLOAT_MODEL)
            draw_curve(self._folder / PICTURE, state.rows, self._recipe.name)
            export_onnx(network, self._folder / f"{self._recipe.name}.onnx")
            write_summary(self._folder / SUMMARY, summary)
        return Finished(model, network, summary)

    def _summary(self, model: nn.Sequential, network: IntegerNetwork) -> dict[str, Any]:
        state, recipe = self._state, self._recipe
        assert state.float_score is not None
        assert state.best_score is not None
        accuracy: dict[str, dict[str, float]] = {
            "float": {"validation": state.float_score.accuracy},
            "int8": {"validation": integer_accuracy(network, self._validation)},
        }
        if self._test:
            test = Examples.on(self._device, self._splits.test)
            model.to(self._device)
            accuracy["float"]["test"] = evaluate(model, test).accuracy
            accuracy["int8"]["test"] = integer_accuracy(network, test)
            model.cpu()
        layers = []
        masked = [
            module for module in model.modules() if isinstance(module, (SparseConv2d, SparseLinear))
        ]
        for layer, module, integers in zip(recipe.layer, masked, network.layers, strict=True):
            layers.append(
                {
                    "kind": layer.kind,
                    "units": layer.units,
                    "ways": layer.ways,
                    "winners": layer.winners,
                    "weights": integers.weights.size,
                    "in_mask": module.nonzeros,
                    "nonzeros": integers.nonzeros,
                }
            )
        weights = sum(layer["weights"] for layer in layers)
        seconds = [row.seconds for row in state.rows if row.phase == "float"]
        return {
            "name": recipe.name,
            "seed": recipe.seed,
            "accuracy": accuracy,
            "examples": {name: len(part) for name, part in self._splits.parts},
            "classes": list(self._splits.classes),
            "weights": weights,
            "in_mask": sum(layer["in_mask"] for layer in layers),
            "nonzeros": network.nonzeros,
            "sparsity": round(1 - network.nonzeros / weights, 5),
            "layers": layers,
            "epochs": {
                phase: sum(row.phase == phase and row.epoch > 0 for row in state.rows)
                for phase in PHASES
            },
            "seconds_per_epoch": round(float(np.median(seconds)), 3),
            "data_credit": self._splits.credit,
            "versions": {
                name: importlib.metadata.version(name) for name in ("trencadis", "torch", "numpy")
            },
            "recipe": recipe.to_dict(),
        }


def load_finished(folder: Path) -> tuple[nn.Sequential, Recipe]:
    """The best network of real numbers of a finished training, and its recipe.

    Returns
    -------
    nn.Sequential
        In evaluation mode, on the CPU.
    Recipe
        That it was trained with.

    Raises
    ------
    TrainingError
        If the folder holds no finished training.
    """
    path = folder / FLOAT_MODEL
    if not path.exists():
        raise TrainingError(
            f"{folder}: holds no finished training (there is no {FLOAT_MODEL}); finish it, or name "
            "another folder"
        )
    checkpoint = Checkpoint.load(path)
    try:
        recipe = parse_recipe(checkpoint.data["recipe"])
        channels, rows, columns = checkpoint.data["shape"]
        model = build_network(recipe.layer, (channels, rows, columns), 1, recipe.seed)
        model.load_state_dict(dict(checkpoint.tensors))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise TrainingError(
            f"{path}: not a trained network ({text}); train it again, or name another folder"
        ) from error
    return model.eval(), recipe


def check_fits(folder: Path, model: nn.Sequential, splits: Splits) -> None:
    """Refuse data that the network of a finished training was not made for.

    Parameters
    ----------
    folder : Path
        Of the training.
    model : nn.Sequential
        From `load_finished`.
    splits : Splits
        The data.

    Raises
    ------
    TrainingError
        Naming the folder.
    """
    shape = (1, *splits.train.images.shape[1:])
    with torch.no_grad():
        try:
            model(torch.zeros(1, *shape))
        except (RuntimeError, TrainingError) as error:
            raise TrainingError(
                f"{folder}: its network takes no inputs of {list(shape)}; choose one trained on "
                "the same data"
            ) from error
    classes = Checkpoint.load(folder / FLOAT_MODEL).data.get("classes")
    if classes is not None and tuple(classes) != splits.classes:
        raise TrainingError(
            f"{folder}: its network tells {', '.join(classes)}, the data have "
            f"{', '.join(splits.classes)}; choose one trained on the same classes in the same order"
        )


def _file_digest(folder: Path) -> str:
    return hashlib.sha256((folder / FLOAT_MODEL).read_bytes()).hexdigest()


def _count_batches(examples: int, batch: int) -> int:
    full, rest = divmod(examples, batch)
    count = full + (rest > 1)
    if not count:
        raise TrainingError(f"training needs at least 2 examples, not {examples}")
    return count


def _epoch_seed(seed: int, phase: str, epoch: int) -> int:
    mixed = np.random.SeedSequence([seed, PHASES.index(phase), epoch]).generate_state(1, np.uint64)
    return int(mixed[0] >> np.uint64(1))


def _differences(theirs: Any, ours: Any, path: str = "") -> list[str]:
    """Names of the fields in which two recipes differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = list(dict.fromkeys([*theirs, *ours]))
        pairs = [(name, theirs.get(name), ours.get(name)) for name in names]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(theirs, ours, strict=True))]
    else:
        return [] if theirs == ours else [path]
    return [
        found
        for name, a, b in pairs
        for found in _differences(a, b, f"{path}.{name}" if path else name)
    ]


def _score(data: Mapping[str, float] | None) -> Score | None:
    return None if data is None else Score(**data)


def _copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
