"""Networks with masked weights in training: PyTorch computes, and zeros are multiplied too."""

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trencadis_train.data.augment import Augmenter
from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.network.export import export_onnx
from trencadis_train.network.integers import IntegerNetwork
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.layers import SparseConv2d, SparseLinear
from trencadis_train.network.network import build_network
from trencadis_train.network.quantised import QuantisedNetwork
from trencadis_train.network.warm_start import begin_with
from trencadis_train.recipe import Recipe
from trencadis_train.training import schedule
from trencadis_train.training.checkpoint import Checkpoint
from trencadis_train.training.dynamic import MaskEvolution
from trencadis_train.training.epoch import (
    INPUT_STEPS,
    Examples,
    evaluate,
    integer_accuracy,
    train_epoch,
)
from trencadis_train.training.finished import (
    FLOAT_MODEL,
    Finished,
    check_fits,
    load_finished,
    model_digest,
)
from trencadis_train.training.loss import Objective
from trencadis_train.training.metrics import SUMMARY, write_summary
from trencadis_train.training.optimisers import load_optimizer, make_optimizer, optimizer_tensors
from trencadis_train.training.plots import PICTURE, draw_curve
from trencadis_train.training.score import Score
from trencadis_train.training.seeds import epoch_seed
from trencadis_train.training.trainable import FLOAT, INTEGERS, PHASES, Settings, State, Trained

__all__ = ["MaskedTraining"]


@dataclass
class _Current:
    """The network of a phase with what changes it."""

    phase: str
    model: nn.Module
    optimizer: torch.optim.Optimizer


class MaskedTraining:
    """A `Trainable` of PyTorch modules whose weights are multiplied with masks.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    splits : Splits
        Its data.
    device : torch.device
        Where to compute.
    test : bool
        Measure the chosen networks on the test part at the end. Leave it out as long as choices
        are made.

    Raises
    ------
    TrainingError
        If recipe and data do not fit.
    """

    def __init__(
        self, recipe: Recipe, splits: Splits, *, device: torch.device | None = None, test: bool
    ) -> None:
        self._recipe = recipe
        self._splits = splits
        self._device = device or torch.device("cpu")
        self._test = test
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
        self.objective = self._make_objective()
        self._fingerprint = {
            "data": splits.fingerprint(),
            "teachers": [model_digest(folder) for folder in recipe.distillation.teachers],
        }
        self._current: _Current | None = None

    @property
    def model(self) -> nn.Module:
        """The network as it stands."""
        return self._state().model

    def fingerprint(self) -> Mapping[str, Any]:
        """Data and teachers."""
        return self._fingerprint

    def begin(self) -> None:
        """Make a random network, or one with what another training has learnt."""
        model = self._build()
        if self._recipe.training.start:
            self._begin_trained(model)
        model.to(self._device)
        self._current = _Current(FLOAT, model, make_optimizer(model, self._recipe.training))

    def advance(self, best: State) -> None:
        """Quantise the best network of real numbers."""
        quantised = self._quantise(self._float_model(best))
        count = self._recipe.quantisation.calibration
        # Chosen at random, since data sets may be sorted by class.
        generator = torch.Generator().manual_seed(self._recipe.seed)
        chosen = torch.randperm(len(self._train), generator=generator)[:count].tolist()
        images = self._train.images[chosen].cpu().float() / INPUT_STEPS
        quantised.calibrate(images.split(256))
        quantised.to(self._device)
        self._current = _Current(INTEGERS, quantised, self._optimizer(INTEGERS, quantised))

    def restore(self, phase: str, network: State, optimiser: State) -> None:
        """Take network and optimiser of a phase."""
        model: nn.Module = self._build()
        if phase == INTEGERS:
            model = self._quantise(model)
        model.load_state_dict(dict(network))
        model.to(self._device)
        optimizer = self._optimizer(phase, model)
        load_optimizer(optimizer, optimiser)
        self._current = _Current(phase, model, optimizer)

    def epochs(self, phase: str) -> int:
        """Number of epochs that the recipe has."""
        recipe = self._recipe
        return recipe.training.epochs if phase == FLOAT else recipe.quantisation.epochs

    def eligible(self, phase: str, epoch: int) -> bool:
        """All epochs, but only the last if the recipe says so, and none before k has its value."""
        training = self._recipe.training
        if training.choose == "last":
            return epoch == self.epochs(phase)
        # Before k has its value, another network is learning: it must not be the best.
        return phase == INTEGERS or epoch / training.epochs >= training.winners_warm_up

    def step(self, phase: str, epoch: int, on_part: Callable[[float], None]) -> Score:
        """Train for an epoch."""
        state, recipe = self._state(), self._recipe
        total, done = self.epochs(phase) * self._batches, epoch * self._batches
        evolution = None
        if phase == FLOAT:
            evolution = MaskEvolution(
                state.model, recipe.layer, recipe.dynamic, batches=total, seed=recipe.seed
            )

        def before_step(number: int) -> None:
            self._adjust((done + number) / total)
            if evolution is not None:
                evolution.before_step(done + number)
            on_part(number / self._batches)

        def after_backward(number: int) -> None:
            if evolution is not None:
                evolution.after_backward(done + number, state.optimizer)

        score = train_epoch(
            state.model,
            state.optimizer,
            self._train,
            batch=recipe.training.batch,
            objective=self.objective,
            augmenter=self._augmenter,
            mixup=recipe.augment.mixup,
            precision=self._precision if phase == FLOAT else torch.float32,
            seed=epoch_seed(recipe.seed, PHASES.index(phase), epoch),
            before_step=before_step,
            after_backward=after_backward,
        )
        self._adjust((epoch + 1) / self.epochs(phase))
        return score

    def validate(self) -> Score:
        """Score on the validation part."""
        return evaluate(self._state().model, self._validation)

    def settings(self) -> Settings:
        """Learning rate, k of every k-WTA, boosting."""
        state = self._state()
        winners = [
            module for module in state.model.modules() if isinstance(module, (KWinners, KWinners2d))
        ]
        return Settings(
            float(state.optimizer.param_groups[0]["lr"]),
            " ".join(str(module.k) for module in winners),
            winners[0].boost if winners else 0.0,
        )

    def network(self) -> State:
        """A copy of the model's tensors."""
        tensors = self._state().model.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def optimiser(self) -> State:
        """Momenta by the number of their parameter."""
        return optimizer_tensors(self._state().optimizer)

    def export(self, trained: Trained, folder: Path | None) -> Finished:
        """Write the network of real numbers, that of integers, curves and summary."""
        quantised = self._state().model
        assert isinstance(quantised, QuantisedNetwork)
        recipe = self._recipe
        model = self._float_model(trained.float_state)
        quantised.load_state_dict(dict(trained.integers_state))
        quantised.eval()
        # Who uses the network has bytes: pixels, or features.
        network = quantised.integers().taking_bytes()
        summary = self._summary(model, network, trained)
        if folder is not None:
            data = {
                "recipe": recipe.to_dict(),
                "shape": self._input_shape,
                "classes": self._splits.classes,
            }
            Checkpoint(model.state_dict(), data).save(folder / FLOAT_MODEL)
            draw_curve(folder / PICTURE, trained.rows, recipe.name)
            export_onnx(network, folder / f"{recipe.name}.onnx")
            write_summary(folder / SUMMARY, summary)
        return Finished(model, network, summary)

    def _state(self) -> _Current:
        assert self._current is not None, "begin or restore comes first"
        return self._current

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

    def _optimizer(self, phase: str, model: nn.Module) -> torch.optim.Optimizer:
        training = self._recipe.training
        if phase == INTEGERS:
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

    def _adjust(self, progress: float) -> None:
        """Learning rate and the like for a part of the phase that is done."""
        state, training = self._state(), self._recipe.training
        if state.phase == INTEGERS:
            quantisation = self._recipe.quantisation
            rate = quantisation.learning_rate * (1 + np.cos(np.pi * progress)) / 2
            _set_rate(state.optimizer, max(float(rate), 1e-5 * quantisation.learning_rate))
            return
        _set_rate(state.optimizer, schedule.learning_rate(training, progress))
        for module, layer in self._winners():
            module.k = schedule.winners(training, layer, module.units, progress)
            module.boost = schedule.boost(training, progress)

    def _winners(self) -> Iterator[tuple[KWinners | KWinners2d, int]]:
        """k-WTA modules with the k of the recipe."""
        wanted = [layer.winners for layer in self._recipe.layer if layer.winners]
        modules = [
            module
            for module in self._state().model.modules()
            if isinstance(module, (KWinners, KWinners2d))
        ]
        yield from zip(modules, wanted, strict=True)

    def _float_model(self, tensors: Mapping[str, torch.Tensor]) -> nn.Sequential:
        """A network of real numbers on the CPU, in evaluation mode."""
        model = self._build()
        model.load_state_dict(tensors)
        return model.eval()

    def _summary(
        self, model: nn.Sequential, network: IntegerNetwork, trained: Trained
    ) -> dict[str, Any]:
        recipe = self._recipe
        accuracy: dict[str, dict[str, float]] = {
            "float": {"validation": trained.float_score.accuracy},
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
        seconds = [row.seconds for row in trained.rows if row.phase == "float"]
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
                phase: sum(row.phase == phase and row.epoch > 0 for row in trained.rows)
                for phase in PHASES
            },
            "seconds_per_epoch": round(float(np.median(seconds)), 3),
            "data_credit": self._splits.credit,
            "versions": {
                name: importlib.metadata.version(name) for name in ("trencadis", "torch", "numpy")
            },
            "recipe": recipe.to_dict(),
        }


def _count_batches(examples: int, batch: int) -> int:
    full, rest = divmod(examples, batch)
    count = full + (rest > 1)
    if not count:
        raise TrainingError(f"training needs at least 2 examples, not {examples}")
    return count


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
