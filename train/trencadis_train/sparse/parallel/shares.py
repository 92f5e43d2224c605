"""Shares of several processes in a training: the order of batches, and parts of the data."""

import numpy as np
import numpy.typing as npt

from trencadis_train.sparse.evolve import evolve_network, fraction_at
from trencadis_train.sparse.network import StepResult
from trencadis_train.sparse.structure import ways_of
from trencadis_train.sparse.training import SparseTraining
from trencadis_train.training.trainable import FLOAT

__all__ = ["SharedTraining"]

ORDER, LOCAL = 11, 12
"""Purposes of seeds: the order of an epoch, and local training."""


class SharedTraining(SparseTraining):
    """A training of which batches and parts can be asked for one by one."""

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Examples of an epoch in the order in which batches take them."""
        rng = np.random.default_rng([self._recipe.seed, ORDER, epoch])
        return rng.permutation(len(self._train))

    def batch_gradients(
        self, epoch: int, number: int, order: npt.NDArray[np.int64]
    ) -> tuple[StepResult, int]:
        """Compute the gradients of a batch of an epoch; what it gave, and its examples."""
        batch = self._recipe.training.batch
        chosen = order[number * batch : (number + 1) * batch]
        x, labels = self._train.load(chosen), self._train.labels[chosen]
        done = epoch * self._batches + number
        return self._gradients(x, labels, done), len(labels)

    def train_locally(self, epoch: int, part: int, parts: int) -> tuple[StepResult, int]:
        """Train on every `parts`-th batch until the end, the topology evolving by itself.

        Returns
        -------
        StepResult
            Mean loss, and examples that were right, of the last epoch.
        int
            Examples of an epoch.
        """
        sparse, epochs = self._recipe.sparse, self._recipe.training.epochs
        optimiser = self._optimiser(FLOAT)
        loss, right, seen = 0.0, 0, 0
        for current in range(epoch, epochs):
            rng = np.random.default_rng([self._recipe.seed, LOCAL, current, part])
            fraction = fraction_at(
                sparse.fraction, current / epochs, sparse.until, cosine=sparse.cosine_fraction
            )
            if current and fraction and sparse.evolution != "fixed":
                evolve_network(self.model, "set", fraction, rng, ways_of(self._recipe))
            order, (loss, right, seen) = self.order(current), (0.0, 0, 0)
            for number in range(part, self._batches, parts):
                result, count = self.batch_gradients(current, number, order)
                done = (current * self._batches + number) / (epochs * self._batches)
                optimiser.step(self.model, self._rate_at(FLOAT, done))
                loss += result.loss * count
                right += result.right
                seen += count
        return StepResult(loss / max(seen, 1), right), seen
