"""Training a recipe of masked networks to quantised ONNX."""

from pathlib import Path

import torch

from trencadis_train.data.labelled import Splits
from trencadis_train.recipe import Recipe
from trencadis_train.training.finished import Finished
from trencadis_train.training.masked import MaskedTraining
from trencadis_train.training.run import OnBatch, OnEpoch, TrainingRun

__all__ = ["Trainer"]


class Trainer(TrainingRun[Finished]):
    """Trains a recipe whose engine is `masked`.

    Parameters are those of `MaskedTraining` and `TrainingRun`.

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
        on_epoch: OnEpoch = lambda row: None,
        on_batch: OnBatch = lambda phase, epoch, part: None,
    ) -> None:
        trainable = MaskedTraining(recipe, splits, device=device, test=test)
        super().__init__(
            recipe, trainable, folder, resume=resume, on_epoch=on_epoch, on_batch=on_batch
        )
