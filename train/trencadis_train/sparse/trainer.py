"""Training a recipe of truly sparse networks to quantised ONNX. PyTorch is not needed."""

from pathlib import Path

from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe
from trencadis_train.sparse.finished import SparseFinished
from trencadis_train.sparse.training import SparseTraining
from trencadis_train.training.run import OnBatch, OnEpoch, TrainingRun

__all__ = ["SparseTrainer"]


class SparseTrainer(TrainingRun[SparseFinished]):
    """Trains a recipe whose engine is `sparse`.

    Parameters are those of `SparseTraining` and `TrainingRun`.

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
        resume: bool = False,
        test: bool = True,
        dense: bool = False,
        on_epoch: OnEpoch = lambda row: None,
        on_batch: OnBatch = lambda phase, epoch, part: None,
    ) -> None:
        super().__init__(
            recipe,
            SparseTraining(recipe, splits, test=test, dense=dense),
            folder,
            resume=resume,
            framework="numpy",
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
