"""Loss of a training: cross-entropy, and the distance from the opinion of teachers."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Objective"]


class Objective:
    """The loss of a batch.

    Parameters
    ----------
    label_smoothing : float
        Share of the target that is spread over all classes.
    teachers : sequence of nn.Module
        Trained models in evaluation mode, with as many outputs as the student. Their opinion is
        the mean of their outputs.
    weight : float
        Share of the teachers, if there are any.
    temperature : float
        Divisor of outputs before they are compared with the teachers'.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        *,
        teachers: Sequence[nn.Module] = (),
        weight: float = 0.5,
        temperature: float = 2.0,
    ) -> None:
        self._label_smoothing = label_smoothing
        self.teachers = list(teachers)
        self._weight = weight
        self._temperature = temperature

    def __call__(
        self,
        outputs: torch.Tensor,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        other: torch.Tensor,
        share: float,
    ) -> torch.Tensor:
        """Mean loss, a scalar.

        Parameters
        ----------
        outputs : float32 tensor, shape (batch, units)
            What the student says.
        inputs : float32 tensor, shape (batch, 1, rows, columns)
            What it was asked.
        labels, other : int64 tensor, shape (batch,)
            Classes, and those that were mixed in.
        share : float
            Share of `labels`; the rest is that of `other`.
        """
        loss = self._entropy(outputs, labels)
        if share < 1:
            loss = share * loss + (1 - share) * self._entropy(outputs, other)
        if not self.teachers:
            return loss
        with torch.no_grad():
            taught = torch.stack([teacher(inputs) for teacher in self.teachers]).mean(dim=0)
        opinion = functional.log_softmax(taught / self._temperature, dim=1)
        own = functional.log_softmax(outputs / self._temperature, dim=1)
        distance = functional.kl_div(own, opinion, reduction="batchmean", log_target=True)
        # Gradients of softened outputs shrink with the square of the temperature.
        return (1 - self._weight) * loss + self._weight * self._temperature**2 * distance

    def _entropy(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(outputs, labels, label_smoothing=self._label_smoothing)
