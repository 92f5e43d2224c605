"""Follow the advice: complementary masks and k-WTA, trained on, rounded, and exported."""

from pathlib import Path

import click
import torch
from network import accuracy, build_network, load_data, train
from torch import nn

from trencadis_train.network.export import export_onnx
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.quantised import QuantisedNetwork
from trencadis_train.network.sparsify import LayerBudget, sparsify

BUDGETS = {
    "0": LayerBudget(ways=2),
    "4": LayerBudget(ways=4),
    "9": LayerBudget(ways=8),
}
"""Kernels that share a tile, by the layer's place in the network: 2 keep half of the weights."""


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/tutorial"))
@click.option("--epochs", default=4, show_default=True, help="After masking, and after k-WTA.")
@click.option("--limit", type=int, help="Digits to use.  [default: all]")
def main(output: Path, epochs: int, limit: int | None) -> None:
    """Retrain the pruned model in OUTPUT, and write it there as quantised ONNX."""
    training, test = load_data(limit)
    pruned = build_network()
    pruned.load_state_dict(torch.load(output / "pruned.pt", weights_only=True))

    masked, layers = sparsify(pruned, BUDGETS)
    for layer in layers:
        print(f"layer {layer.name}: {layer.nonzeros:,} of {layer.weights:,} weights", end=", ")
        print(f"{layer.kept:.1%} of their magnitude")
    train(masked, training, epochs=epochs, rate=0.05)
    print(f"complementary: {accuracy(masked, test):.1%} on test")

    stages = list(masked)
    stages[11:11] = [KWinners(16, 128)]  # of 128 units, after the ReLU of the linear layer
    stages[8:8] = [KWinners2d(8, 32)]  # of 32 channels at every position, after max-pooling
    stages[4:4] = [KWinners2d(4, 16)]
    winners = nn.Sequential(*stages)
    train(winners, training, epochs=epochs, rate=0.05)
    print(f"with k-WTA: {accuracy(winners, test):.1%} on test")

    rounded = QuantisedNetwork(winners, input_shape=(1, 28, 28), input_scale=1 / 255)
    rounded.calibrate([training.images[:400]])
    train(rounded, training, epochs=1, rate=1e-3)
    print(f"int8: {accuracy(rounded, test):.1%} on test")
    export_onnx(rounded.integers(), output / "followed.onnx")


if __name__ == "__main__":
    main()
