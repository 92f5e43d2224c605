"""Training with several workers: WASAP-SGD, or its synchronous variant.

The server is the trainer: it evolves, validates, writes checkpoints, and resumes. Results depend on
which batch comes first, so they are not the same twice.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trencadis_train.data.labelled import Splits
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.finished import SparseFinished
from trencadis_train.sparse.parallel.pool import Pool
from trencadis_train.sparse.parallel.server import Server, WorkOf
from trencadis_train.sparse.parallel.wire import signature
from trencadis_train.sparse.training import SparseTraining
from trencadis_train.training.run import OnBatch, OnEpoch, TrainingRun
from trencadis_train.training.score import Score
from trencadis_train.training.trainable import FLOAT

__all__ = ["ParallelTrainer", "ParallelTraining"]


class ParallelTraining(SparseTraining):
    """A `Trainable` whose epochs are done by workers.

    Parameters
    ----------
    recipe, splits, test, dense
        As in `SparseTraining`.
    address : str
        `HOST:PORT` to listen at; port 0 is any.
    parts : int
        Into which data are cut for local training.
    pool : Pool, optional
        Workers to start; others join by themselves.
    timeout_s : float
        See `Server`.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        *,
        test: bool = True,
        dense: bool = False,
        address: str = "127.0.0.1:0",
        parts: int = 2,
        pool: Pool | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        super().__init__(recipe, splits, test=test, dense=dense)
        if recipe.sparse.evolution == "rigl":
            raise TrainingError(
                "sparse.evolution must be fixed or set with several workers, not 'rigl': gradients "
                "of other places are with the workers"
            )
        if recipe.sparse.local_epochs >= recipe.training.epochs:
            raise TrainingError(
                f"sparse.local_epochs must be below the {recipe.training.epochs} epochs, not "
                f"{recipe.sparse.local_epochs}"
            )
        self._address, self._parts, self._pool = address, parts, pool
        self._timeout_s = timeout_s
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """Server of the workers; it listens from the first use on."""
        if self._server is None:
            data = str(self.fingerprint()["data"])
            self._server = Server(
                self.model,
                signature(self._recipe, data),
                self._address,
                timeout_s=self._timeout_s,
            )
            if self._pool is not None:
                self._pool.start(self._server.address)
        return self._server

    def epochs(self, phase: str) -> int:
        """Local epochs count as one."""
        epochs = super().epochs(phase)
        return epochs - max(0, self._recipe.sparse.local_epochs - 1) if phase == FLOAT else epochs

    def close(self) -> None:
        """Send the workers home."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._pool is not None:
            self._pool.stop()

    def _rewire(self, epoch: int, rng: np.random.Generator) -> list[int]:
        changed = super()._rewire(epoch, rng)
        self.server.changed()
        return changed

    def _epoch(
        self, phase: str, epoch: int, rng: np.random.Generator, on_part: Callable[[float], None]
    ) -> Score:
        if phase != FLOAT:
            return super()._epoch(phase, epoch, rng, on_part)
        sparse, total = self._recipe.sparse, self._recipe.training.epochs * self._batches
        local = bool(sparse.local_epochs) and epoch + 1 == self.epochs(FLOAT)

        def rate(batch: int) -> float:
            return self._rate_at(FLOAT, (epoch * self._batches + batch) / total)

        work = WorkOf(
            epoch,
            self._batches,
            self._optimiser(FLOAT),
            rate,
            synchronous=sparse.synchronous,
            local=self._parts if local else 0,
        )
        score = self.server.run(work, on_part)
        self._rate = rate(self._batches)
        return score


class ParallelTrainer(TrainingRun[SparseFinished]):
    """Trains a recipe whose engine is `sparse` with several workers.

    Parameters are those of `ParallelTraining` and `TrainingRun`.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        folder: Path | None = None,
        *,
        resume: bool = False,
        test: bool = True,
        dense: bool = False,
        on_epoch: OnEpoch = lambda row: None,
        on_batch: OnBatch = lambda phase, epoch, part: None,
        address: str = "127.0.0.1:0",
        parts: int = 2,
        pool: Pool | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.training = ParallelTraining(
            recipe,
            splits,
            test=test,
            dense=dense,
            address=address,
            parts=parts,
            pool=pool,
            timeout_s=timeout_s,
        )
        super().__init__(
            recipe,
            self.training,
            folder,
            resume=resume,
            framework="numpy",
            on_epoch=on_epoch,
            on_batch=on_batch,
        )

    def run(self) -> SparseFinished:
        """Train until the end, then send the workers home."""
        try:
            return super().run()
        finally:
            self.training.close()
