"""One epoch of training, and the evaluation after it."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from trencadis_train.data.augment import Augmenter
from trencadis_train.data.labelled import Labelled
from trencadis_train.network.integers import IntegerNetwork
from trencadis_train.training.loss import Objective
from trencadis_train.training.score import DivergedError, Score

__all__ = [
    "INPUT_STEPS",
    "Examples",
    "evaluate",
    "integer_accuracy",
    "right_answers",
    "train_epoch",
]

INPUT_STEPS = 255
"""Inputs of a network are bytes divided by this, so 0..1."""

EVALUATION_BATCH = 512

CHECK_EVERY = 32
"""Batches between two looks at the loss; each waits for the device."""


@dataclass(frozen=True)
class Examples:
    """A part of a data set where it is computed with.

    Attributes
    ----------
    images : uint8 tensor, shape (examples, 1, rows, columns)
        Bytes.
    labels : int64 tensor, shape (examples,)
        Classes.
    """

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def on(cls, device: torch.device, part: Labelled) -> Self:
        """A part of a data set, copied to a device."""
        images, labels = torch.tensor(part.images), torch.tensor(part.labels)
        return cls(images[:, None].to(device), labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self) -> torch.Tensor:
        """Examples as a network takes them: float32 in 0..1."""
        return self.images.float() / INPUT_STEPS

    def batches(self) -> Iterator[Self]:
        """Examples in order, as many at a time as are evaluated together."""
        for start in range(0, len(self), EVALUATION_BATCH):
            chosen = slice(start, start + EVALUATION_BATCH)
            yield type(self)(self.images[chosen], self.labels[chosen])


def evaluate(model: nn.Module, examples: Examples) -> Score:
    """Accuracy and loss in evaluation mode; the model's mode is restored."""
    before = model.training
    model.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for part in examples.batches():
            outputs = model(part.inputs()).float()
            right += int((outputs.argmax(dim=1) == part.labels).sum())
            loss += float(functional.cross_entropy(outputs, part.labels, reduction="sum"))
    model.train(before)
    return Score(right / len(examples), loss / len(examples))


def integer_accuracy(network: IntegerNetwork, examples: Examples) -> float:
    """Share of right answers of a network that takes bytes as they are."""
    right = 0
    for part in examples.batches():
        outputs = network(part.images.float())
        right += int((outputs.argmax(dim=1) == part.labels).sum())
    return right / len(examples)


def right_answers(model: nn.Module, examples: Examples) -> npt.NDArray[np.bool_]:
    """Find the examples that a model in evaluation mode gets right.

    Returns
    -------
    bool array, shape (examples,)
    """
    with torch.no_grad():
        right = [model(part.inputs()).argmax(dim=1) == part.labels for part in examples.batches()]
    return torch.cat(right).cpu().numpy()


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    *,
    batch: int,
    objective: Objective,
    augmenter: Augmenter,
    mixup: float,
    precision: torch.dtype,
    seed: int,
    before_step: Callable[[int], None],
    after_backward: Callable[[int], None],
) -> Score:
    """Go through all examples once, in an order of the seed.

    Everything random depends on the seed alone, so an epoch that is repeated after an interruption
    is the same epoch.

    Parameters
    ----------
    model, optimizer
        Changed in place; the model is left in training mode.
    examples : Examples
        To learn from. A last batch of a single example is left out: batch-norm needs two.
    batch : int
        Examples of a step.
    objective : Objective
        What to minimise.
    augmenter : Augmenter
        Changes the examples.
    mixup : float
        Parameter of the beta distribution of shares; 0 for none.
    precision : torch.dtype
        Precision of products and activations.
    seed : int
        Seed of this epoch.
    before_step, after_backward : callable
        Called with the number of the batch before the network computes, and when there are
        gradients.

    Returns
    -------
    Score
        Of the examples as the network saw them, so with the changes made to them.

    Raises
    ------
    DivergedError
        If the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of dropout
    rng = np.random.default_rng(seed)
    order = torch.randperm(len(examples), generator=generator)
    device = examples.images.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    model.train()
    parts = [part for part in order.split(batch) if len(part) > 1]
    for number, part in enumerate(parts):
        before_step(number)
        chosen = part.to(device)
        labels = examples.labels[chosen]
        inputs = augmenter(examples.images[chosen].float(), generator) / INPUT_STEPS
        other, share = labels, 1.0
        if mixup:
            share = float(rng.beta(mixup, mixup))
            partner = torch.randperm(len(part), generator=generator).to(device)
            inputs = share * inputs + (1 - share) * inputs[partner]
            other = labels[partner]
        with _computing(device, precision):
            outputs = model(inputs)
        outputs = outputs.float()
        loss = objective(outputs, inputs, labels, other, share)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        after_backward(number)
        optimizer.step()
        total += loss.detach() * len(part)
        right += (outputs.detach().argmax(dim=1) == labels).sum()
        seen += len(part)
        if (number % CHECK_EVERY == 0 or number == len(parts) - 1) and not math.isfinite(total):
            raise DivergedError(
                f"the loss became {loss.item()} by batch {number + 1} of the epoch; lower "
                "learning_rate, or lengthen warm_up"
            )
    return Score(float(right) / seen, float(total) / seen)


def _computing(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
