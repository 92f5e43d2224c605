"""Speed: kernels, an epoch against masked PyTorch, convolutions against dense ones."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trencadis_train.data.fashion import load_fashion_mnist
from trencadis_train.data.labelled import Splits
from trencadis_train.memory import aligned_zeros
from trencadis_train.sparse.bench.clock import best_cpu_seconds, interleaved
from trencadis_train.sparse.bench.masked import MaskedNetwork, masked_epoch
from trencadis_train.sparse.inputs import Batches, Standard
from trencadis_train.sparse.loops import kernels
from trencadis_train.sparse.loops.activations import negative_slope
from trencadis_train.sparse.loops.losses import softmax_cross_entropy
from trencadis_train.sparse.modules import CsrConv2d
from trencadis_train.sparse.network import CsrNetwork, Hidden
from trencadis_train.sparse.optimiser import Momentum
from trencadis_train.sparse.topologies.topology import connections_of_density, draw_topology

__all__ = ["measure_convolution", "measure_kernels", "measure_masked"]

BATCH = 128
WIDTHS = (784, 1000, 1000, 1000, 10)
EPSILON = 20


def measure_kernels() -> dict[str, Any]:
    """Nanoseconds per connection and sample of 1000 x 1000 kernels, forward and backward."""
    found = {f"{percent} %": _kernels_of(percent) for percent in (1, 4, 10)}
    sums = {name: row["forward_ns"] + row["backward_ns"] for name, row in found.items()}
    return {"kernel_ns": max(sums["4 %"], sums["10 %"]), "by_density": found}


def measure_masked(batches: int = 40, rounds: int = 5) -> dict[str, Any]:
    """CPU seconds of an epoch of Fashion-MNIST, ours and masked PyTorch's, in turns.

    Parameters
    ----------
    batches : int
        Batches of a turn; an epoch has 468.
    rounds : int
        Turns.
    """
    splits = load_fashion_mnist(0.01)
    part, standard = _standardised(splits)
    rng = np.random.default_rng(1)
    topologies = [
        draw_topology(a, b, connections_of_density(a, b, EPSILON), rng)
        for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)
    ]
    slopes = [negative_slope("all-relu", 0.6, number) for number in range(3)]
    order = rng.permutation(60_000 * 99 // 100)
    chosen = [order[n * BATCH : (n + 1) * BATCH] for n in range(batches)]
    ours = CsrNetwork.begin(topologies, [Hidden(slope, 0, 0.3) for slope in slopes], rng)
    optimiser = Momentum(decay=2e-4)

    def sparse() -> None:
        for number, picked in enumerate(chosen):
            x = part.load(picked)
            ours.gradients(x, part.labels[picked], softmax_cross_entropy, seed=number)
            optimiser.step(ours, 0.01)

    labels = torch.from_numpy(part.labels)
    inputs = torch.from_numpy(part.examples)
    mean, inverse = torch.from_numpy(standard.mean), torch.from_numpy(standard.inverse)

    def load(picked: npt.NDArray[np.int64]) -> torch.Tensor:
        return (inputs[torch.from_numpy(picked)].float() - mean) * inverse

    runs = {"sparse": sparse}
    for name, threads, masks in (
        ("masked, 1 thread", 1, topologies),
        ("masked, 2 threads", 2, topologies),
        ("dense, 1 thread", 1, None),
    ):
        network = MaskedNetwork(masks, WIDTHS, slopes, 0.3)
        sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)

        def run(network: Any = network, sgd: Any = sgd, threads: int = threads) -> None:
            torch.set_num_threads(threads)
            masked_epoch(network, sgd, load, labels, chosen)

        runs[name] = run
    found = interleaved(runs, rounds)
    epoch = {name: seconds * 468 / batches for name, seconds in found.items()}
    masked = min(epoch["masked, 1 thread"], epoch["masked, 2 threads"])
    return {"masked_ratio": masked / epoch["sparse"], "cpu_s_per_epoch": epoch}


def measure_convolution() -> dict[str, Any]:
    """CPU milliseconds forward and backward of 64x64x3x3 convolutions on 16x16 maps, batch 128."""
    torch.set_num_threads(1)
    table = {f"{100 * s:.0f} %": _convolution_of(s) for s in (0.8, 0.9, 0.95, 0.98)}
    row = table["95 %"]
    return {"convolution_ratio": row["dense"] / row["sparse"], "cpu_ms": table}


def _standardised(splits: Splits) -> tuple[Batches, Standard]:
    flat = splits.train.images.reshape(len(splits.train), -1)
    standard = Standard.of(flat, "all")
    return Batches.of(splits.train, standard), standard


def _kernels_of(percent: int) -> dict[str, float]:
    rng = np.random.default_rng(percent)
    topology = draw_topology(1000, 1000, 10_000 * percent, rng)
    columns = topology.columns()
    weights, dw = (rng.standard_normal(topology.connections).astype(np.float32) for _ in range(2))
    x, z, dz, dx = (aligned_zeros((1000, BATCH)) for _ in range(4))
    for array in (x, dz):
        rng.standard_normal(dtype=np.float32, out=array)
    bias = np.zeros(1000, np.float32)

    def forward() -> None:
        kernels.forward(topology.pointers, topology.indices, weights, bias, x, z)

    def backward() -> None:
        kernels.backward(
            columns.pointers,
            columns.rows,
            columns.places,
            weights,
            x,
            dz,
            dx,
            dw,
        )

    count = topology.connections * BATCH
    return {
        "forward_ns": 1e9 * best_cpu_seconds(forward) / count,
        "backward_ns": 1e9 * best_cpu_seconds(backward) / count,
    }


def _convolution_of(sparsity: float) -> dict[str, float]:
    sparse = CsrConv2d(64, 64, 3, round((1 - sparsity) * 64 * 576), padding=1)
    dense = torch.nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(BATCH, 64, 16, 16, requires_grad=True)
    gradient = torch.randn(BATCH, 64, 16, 16)
    found = interleaved(
        {
            "sparse": lambda: sparse(x).backward(gradient),
            "dense": lambda: dense(x).backward(gradient),
        },
        5,
    )
    return {name: 1e3 * seconds for name, seconds in found.items()}
