"""A network of one's own, in plain PyTorch: digits, batches, training, accuracy."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trencadis_train.data.digits import load_digits

__all__ = ["Digits", "accuracy", "build_network", "export_float", "load_data", "train"]

BATCH = 50


@dataclass(frozen=True)
class Digits:
    """Images, float32 from 0 to 1, shape (n, 1, 28, 28), and their labels."""

    images: Tensor
    labels: Tensor


def build_network() -> nn.Sequential:
    """Two convolutions and two linear layers."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def load_data(limit: int | None = None) -> tuple[Digits, Digits]:
    """Digits to train on and digits to test with, of each at most `limit`."""
    splits = load_digits()
    parts = []
    for part in (splits.train, splits.test):
        images = part.images[:limit, None].astype(np.float32) / np.float32(255)
        parts.append(Digits(torch.from_numpy(images), torch.from_numpy(part.labels[:limit])))
    return parts[0], parts[1]


def train(model: nn.Module, digits: Digits, *, epochs: int, rate: float) -> None:
    """Train with SGD; the learning rate falls to zero along a cosine. What is masked stays zero."""
    generator = torch.Generator().manual_seed(1)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * -(-len(digits.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    for _ in range(epochs):
        for indices in torch.randperm(len(digits.labels), generator=generator).split(BATCH):
            loss = functional.cross_entropy(model(digits.images[indices]), digits.labels[indices])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()


def accuracy(model: nn.Module, digits: Digits) -> float:
    """Share of digits that are classified right."""
    with torch.no_grad():
        found = torch.cat([model(part).argmax(1) for part in digits.images.split(500)])
    return float((found == digits.labels).float().mean())


def export_float(model: nn.Module, path: Path) -> None:
    """Write a model as ONNX with an open batch."""
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        dynamo=False,
    )
