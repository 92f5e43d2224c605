"""Scores of networks on examples, and the exception for one that does not learn any more."""

from dataclasses import dataclass

from trencadis_train.errors import TrainingError

__all__ = ["DivergedError", "Score"]


class DivergedError(TrainingError):
    """The loss is not a number any more."""


@dataclass(frozen=True)
class Score:
    """Share of right answers, and mean loss."""

    accuracy: float
    loss: float
