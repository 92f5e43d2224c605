"""Train a network, prune it by magnitude, and export it: what a person has who comes here."""

from pathlib import Path

import click
import numpy as np
import torch
from network import accuracy, build_network, export_float, load_data, train
from torch import nn
from torch.nn.utils import prune

PRUNED = 0.9
"""Share of the weights that are made zero, the smallest of all layers but the last."""


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/tutorial"))
@click.option("--epochs", default=8, show_default=True, help="Before pruning; half as many after.")
@click.option("--limit", type=int, help="Digits to use.  [default: all]")
def main(output: Path, epochs: int, limit: int | None) -> None:
    """Write the float model, and arrays to calibrate and to test with, into OUTPUT."""
    output.mkdir(parents=True, exist_ok=True)
    training, test = load_data(limit)
    model = build_network()
    train(model, training, epochs=epochs, rate=0.05)
    print(f"dense: {accuracy(model, test):.1%} on test")

    hidden = [module for module in model if isinstance(module, nn.Conv2d | nn.Linear)][:-1]
    prune.global_unstructured(
        [(module, "weight") for module in hidden], prune.L1Unstructured, amount=PRUNED
    )
    train(model, training, epochs=max(1, epochs // 2), rate=0.02)
    for module in hidden:
        prune.remove(module, "weight")
    print(f"pruned: {accuracy(model, test):.1%} on test")

    torch.save(model.state_dict(), output / "pruned.pt")
    export_float(model, output / "pruned.onnx")
    np.save(output / "calibration.npy", training.images[:400].numpy())
    np.save(output / "x.npy", test.images.numpy())
    np.save(output / "y.npy", test.labels.numpy())


if __name__ == "__main__":
    main()
