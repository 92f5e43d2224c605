"""Truly sparse networks in training: the `Trainable` whose weights exist as connections only."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Augmentation, Recipe
from trencadis_train.sparse import history
from trencadis_train.sparse.evolve import evolve_layer, fraction_at
from trencadis_train.sparse.finished import FLOAT_NETWORK, SparseFinished
from trencadis_train.sparse.history import LayerMetrics
from trencadis_train.sparse.importance import prune_neurons
from trencadis_train.sparse.inputs import Batches, Standard
from trencadis_train.sparse.integer.export import export_sparse_onnx
from trencadis_train.sparse.integer.integers import SparseIntegers
from trencadis_train.sparse.loops.losses import loss_function
from trencadis_train.sparse.network import CsrNetwork
from trencadis_train.sparse.optimiser import Momentum
from trencadis_train.sparse.plots import HISTORY_PICTURE, draw_history
from trencadis_train.sparse.rates import rate_at
from trencadis_train.sparse.rounding import Rounding
from trencadis_train.sparse.structure import build_sparse, check_recipe, hidden_of, ways_of
from trencadis_train.sparse.summary import summarise
from trencadis_train.training.checkpoint import Checkpoint
from trencadis_train.training.metrics import SUMMARY, write_summary
from trencadis_train.training.plots import PICTURE, draw_curve
from trencadis_train.training.score import DivergedError, Score
from trencadis_train.training.seeds import epoch_seed
from trencadis_train.training.trainable import FLOAT, PHASES, Settings, State, Trained

__all__ = ["SparseTraining"]

HISTORY = "topology.csv"

GRIDS = "grids"
MOMENTA = "momenta"

Arrays = dict[str, npt.NDArray[Any]]


class SparseTraining:
    """A `Trainable` of sparse linear layers.

    Parameters
    ----------
    recipe : Recipe
        Whose engine is `sparse`.
    splits : Splits
        Its data; images are flattened.
    test : bool
        Measure the chosen networks on the test part at the end.
    dense : bool
        Write the weights of the ONNX file densely, zeros and all.

    Raises
    ------
    TrainingError
        If the recipe asks for what this engine does not do, or does not fit the data.
    """

    def __init__(
        self, recipe: Recipe, splits: Splits, *, test: bool = True, dense: bool = False
    ) -> None:
        check_recipe(recipe)
        if len(splits.classes) < 2:
            raise TrainingError(f"training needs two classes at least, not {splits.classes}")
        self._recipe = recipe
        self._splits = splits
        self._test = test
        self._dense = dense
        flat = splits.train.images.reshape(len(splits.train), -1)
        self._standard = Standard.of(flat, recipe.sparse.standardise)
        self._train = Batches.of(splits.train, self._standard, _augmenter(recipe, splits))
        self._validation = Batches.of(splits.validation, self._standard)
        self._loss = loss_function(recipe.sparse.loss)
        self._network: CsrNetwork | None = None
        self._rounding: Rounding | None = None
        self._history: list[LayerMetrics] = []
        self._rate = recipe.training.learning_rate

    @property
    def recipe(self) -> Recipe:
        """Network that is trained."""
        return self._recipe

    @property
    def standard(self) -> Standard:
        """Transformation of inputs."""
        return self._standard

    @property
    def model(self) -> CsrNetwork:
        """The network as it stands."""
        assert self._network is not None, "begin or restore comes first"
        return self._network

    def fingerprint(self) -> Mapping[str, Any]:
        """The data."""
        return {"data": self._splits.fingerprint()}

    def begin(self) -> None:
        """Make a random network."""
        inputs = self._train.examples.shape[1]
        self._network = build_sparse(self._recipe, inputs, len(self._splits.classes))

    def advance(self, best: State) -> None:
        """Choose the grids of the best network of real numbers."""
        self._network = CsrNetwork.from_state(dict(best), hidden_of(self._recipe))
        rng = np.random.default_rng([self._recipe.seed, 2])
        count = min(self._recipe.quantisation.calibration, len(self._train))
        x = self._train.load(rng.permutation(len(self._train))[:count])
        self._rounding = Rounding.calibrated(self._network, self._standard, x)
        self._rate = self._recipe.quantisation.learning_rate

    def restore(self, phase: str, network: State, optimiser: State) -> None:
        """Take network, momenta and history."""
        arrays = dict(network)
        grids = arrays.pop(GRIDS, None)
        if (phase == FLOAT) != (grids is None):
            raise TrainingError(f"its network is none of the phase {phase!r}")
        momenta = {name: array for name, array in optimiser.items() if name != HISTORY}
        self._network = CsrNetwork.from_state(arrays | momenta, hidden_of(self._recipe))
        inputs = self._train.examples.shape[1]
        if self._network.widths[0] != inputs:
            raise TrainingError(f"its network reads {self._network.widths[0]} inputs, not {inputs}")
        if grids is not None:
            self._rounding = Rounding.from_array(grids, self._standard)
        self._history = history.from_array(optimiser[HISTORY])

    def epochs(self, phase: str) -> int:
        """Number of epochs that the recipe has."""
        recipe = self._recipe
        return recipe.training.epochs if phase == FLOAT else recipe.quantisation.epochs

    def eligible(self, phase: str, epoch: int) -> bool:
        """All epochs; only the last if the recipe says so, none before pruning is over."""
        recipe = self._recipe
        if recipe.training.choose == "last":
            return epoch == self.epochs(phase)
        return phase != FLOAT or recipe.sparse.prune == "none" or epoch == self.epochs(phase)

    def step(self, phase: str, epoch: int, on_part: Callable[[float], None]) -> Score:
        """Change the topology, then train for an epoch."""
        seed = epoch_seed(self._recipe.seed, PHASES.index(phase), epoch)
        rng = np.random.default_rng(seed)
        changed = self._rewire(epoch, rng) if phase == FLOAT else []
        score = self._epoch(phase, epoch, rng, on_part)
        if phase == FLOAT:
            self._history += LayerMetrics.of(self.model, epoch + 1, changed)
            if self._recipe.sparse.prune == "after" and epoch + 1 == self.epochs(phase):
                self._prune()
        return score

    def validate(self) -> Score:
        """Score on the validation part, on integers in their phase."""
        if self._rounding is not None:
            return self._integer_score(self._integers(), self._validation)
        return self._float_score(self.model, self._validation)

    def settings(self) -> Settings:
        """The learning rate, and k of every k-WTA."""
        winners = [str(hidden.winners) for hidden in self.model.hidden if hidden.winners]
        return Settings(self._rate, " ".join(winners))

    def network(self) -> State:
        """A copy of topologies, weights and biases, and of the grids once there are any."""
        arrays: Arrays = {
            name: array.copy()
            for name, array in self.model.state().items()
            if not name.endswith(MOMENTA)
        }
        if self._rounding is not None:
            arrays[GRIDS] = self._rounding.to_array()
        return arrays

    def optimiser(self) -> State:
        """Momenta and the history of topologies."""
        momenta = {
            name: array for name, array in self.model.state().items() if name.endswith(MOMENTA)
        }
        return momenta | {HISTORY: history.to_array(self._history)}

    def export(self, trained: Trained, folder: Path | None) -> SparseFinished:
        """Write the network of real numbers, that of integers, curves and summary."""
        recipe = self._recipe
        model = CsrNetwork.from_state(dict(trained.float_state), hidden_of(recipe))
        arrays = dict(trained.integers_state)
        self._rounding = Rounding.from_array(arrays.pop(GRIDS), self._standard)
        self._network = CsrNetwork.from_state(arrays, hidden_of(recipe))
        network = self._integers()
        accuracy = self._accuracy(model, network, trained)
        summary = summarise(recipe, self._splits, model, network, trained, accuracy)
        if folder is not None:
            data = {"recipe": recipe.to_dict(), "classes": self._splits.classes}
            Checkpoint(trained.float_state, data).save(folder / FLOAT_NETWORK)
            draw_curve(folder / PICTURE, trained.rows, recipe.name)
            history.write_history(folder / HISTORY, self._history)
            draw_history(folder / HISTORY_PICTURE, self._history, recipe.name)
            export_sparse_onnx(network, folder / f"{recipe.name}.onnx", dense=self._dense)
            write_summary(folder / SUMMARY, summary)
        return SparseFinished(model, network, summary)

    def _rewire(self, epoch: int, rng: np.random.Generator) -> list[int]:
        """Prune and evolve before an epoch; connections that were changed in every layer."""
        sparse, epochs = self._recipe.sparse, self._recipe.training.epochs
        if not epoch:
            return []
        since = epoch - math.ceil(sparse.prune_from * epochs)
        if sparse.prune == "during" and since >= 0 and since % sparse.prune_every == 0:
            self._prune()
        cosine = sparse.cosine_fraction
        fraction = fraction_at(sparse.fraction, epoch / epochs, sparse.until, cosine=cosine)
        if sparse.evolution == "rigl" and fraction:
            x, labels = next(self._train.shuffled(self._recipe.training.batch, rng))
            self.model.gradients(x, labels, self._loss, seed=epoch)
        ways = ways_of(self._recipe)
        return [
            evolve_layer(self.model, number, sparse.evolution, fraction, rng, ways[number])
            for number in range(len(self.model.layers))
        ]

    def _prune(self) -> None:
        prune_neurons(self.model, self._recipe.sparse.prune_percentile, ways_of(self._recipe))

    def _epoch(
        self, phase: str, epoch: int, rng: np.random.Generator, on_part: Callable[[float], None]
    ) -> Score:
        recipe, network, batches = self._recipe, self.model, self._batches
        total = batches * self.epochs(phase)
        optimiser = self._optimiser(phase)
        loss, right, seen = 0.0, 0, 0
        for number, (x, labels) in enumerate(self._train.shuffled(recipe.training.batch, rng)):
            done = epoch * batches + number
            self._rate = self._rate_at(phase, done / total)
            result = self._gradients(x, labels, done)
            if not math.isfinite(result.loss):
                raise DivergedError(
                    f"the loss became {result.loss} by batch {number + 1} of the epoch; lower "
                    "learning_rate, or set sparse.clip"
                )
            optimiser.step(network, self._rate)
            loss += result.loss * len(labels)
            right += result.right
            seen += len(labels)
            on_part((number + 1) / batches)
        return Score(right / seen, loss / seen)

    @property
    def _batches(self) -> int:
        """Full batches of an epoch; all examples are one if there is none."""
        return max(1, len(self._train) // self._recipe.training.batch)

    def _optimiser(self, phase: str) -> Momentum:
        recipe = self._recipe
        return Momentum(
            momentum=recipe.training.momentum,
            decay=recipe.training.weight_decay if phase == FLOAT else 0.0,
            clip=recipe.sparse.clip,
        )

    def _gradients(self, x: Any, labels: Any, done: int) -> Any:
        smoothing = self._recipe.training.label_smoothing
        rounding = self._rounding
        # Dropout of a place depends on the seed and the number of the step alone.
        seed = self._recipe.seed * 1_000_003 + done
        if rounding is None:
            return self.model.gradients(x, labels, self._loss, seed=seed, smoothing=smoothing)
        with rounding.rounded(self.model):
            return self.model.gradients(
                x, labels, self._loss, seed=seed, smoothing=smoothing, rounding=rounding.hidden
            )

    def _rate_at(self, phase: str, progress: float) -> float:
        if phase == FLOAT:
            return rate_at(self._recipe, progress)
        peak = self._recipe.quantisation.learning_rate
        return max(peak * (1 + math.cos(math.pi * progress)) / 2, 1e-5 * peak)

    def _integers(self) -> SparseIntegers:
        assert self._rounding is not None
        shape = (1, *self._splits.train.images.shape[1:])
        return self._rounding.integers(self.model, self._recipe.name, shape)

    def _accuracy(
        self, model: CsrNetwork, network: SparseIntegers, trained: Trained
    ) -> dict[str, dict[str, float]]:
        accuracy = {
            "float": {"validation": trained.float_score.accuracy},
            "int8": {"validation": self._integer_score(network, self._validation).accuracy},
        }
        if self._test:
            test = Batches.of(self._splits.test, self._standard)
            accuracy["float"]["test"] = self._float_score(model, test).accuracy
            accuracy["int8"]["test"] = self._integer_score(network, test).accuracy
        return accuracy

    def _float_score(self, model: CsrNetwork, part: Batches) -> Score:
        loss, right = 0.0, 0
        for x, labels in part.in_order():
            outputs = model.outputs(x)
            right += int((outputs.argmax(axis=0) == labels).sum())
            loss += self._loss(outputs, labels, 0.0)[0] * len(labels)
        return Score(right / len(part), loss / len(part))

    def _integer_score(self, network: SparseIntegers, part: Batches) -> Score:
        outputs = network(part.examples).T
        right = (outputs.argmax(axis=0) == part.labels).mean()
        return Score(float(right), self._loss(outputs, part.labels, 0.0)[0])


def _augmenter(recipe: Recipe, splits: Splits) -> Callable[[Any, int], Any] | None:
    """Changes bytes of examples, shape (examples, features), by a seed; none without augmentation.

    It is the other engine's and needs PyTorch.
    """
    if recipe.augment == Augmentation():
        return None
    import torch

    from trencadis_train.data.augment import Augmenter

    noise = None if splits.noise is None else torch.tensor(splits.noise)[:, None].float()
    augmenter = Augmenter(recipe.augment, noise)
    shape = (1, *splits.train.images.shape[1:])

    def change(examples: Any, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        images = torch.from_numpy(examples.reshape(-1, *shape)).float()
        return augmenter(images, generator).numpy().reshape(len(examples), -1)

    return change
