import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from trencadis_train.network.kernels import MaxPool2d, convolve, max_pool
from trencadis_train.network.layers import SparseConv2d


def _integers(*shape: int, seed: int = 1) -> torch.Tensor:
    """Small integers as floats: sums of their products are exact in any order, and they tie."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).float()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (0, 0)), ((2, 1), (1, 2))])
@pytest.mark.parametrize("bias", [False, True])
def test_convolution_is_that_of_pytorch(
    channels: int, stride: tuple[int, int], padding: tuple[int, int], bias: bool
) -> None:
    x = _integers(3, channels, 9, 7)
    weight = _integers(5, channels, 3, 2, seed=2).requires_grad_()
    added = _integers(5, seed=3).requires_grad_() if bias else None
    ours = convolve(x, weight, added, stride, padding)
    theirs = functional.conv2d(x, weight, added, stride, padding)
    assert torch.equal(ours, theirs)
    towards = _integers(*ours.shape, seed=4)
    wanted = [weight] if added is None else [weight, added]
    for one, other in zip(
        torch.autograd.grad(ours, wanted, towards),
        torch.autograd.grad(theirs, wanted, towards),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_convolution_of_one_channel_passes_gradients_to_its_input() -> None:
    x = _integers(2, 1, 6, 6).requires_grad_()
    out = convolve(x, _integers(4, 1, 3, 3), None, (1, 1), (0, 0))
    assert torch.autograd.grad(out.sum(), x)[0].shape == x.shape


@pytest.mark.parametrize("window", [2, (2, 2), (3, 1), (1, 4), (1, 1), 5])
def test_pooling_is_that_of_pytorch_with_ties(window: int | tuple[int, int]) -> None:
    x = _integers(3, 4, 12, 8).requires_grad_()
    ours, theirs = max_pool(x, window), functional.max_pool2d(x, window)
    assert torch.equal(ours, theirs)
    towards = _integers(*ours.shape, seed=2)
    (one,) = torch.autograd.grad(ours, x, towards)
    (other,) = torch.autograd.grad(theirs, x, towards)
    assert torch.equal(one, other)


def test_the_module_pools_and_is_one_of_pytorch() -> None:
    x = _integers(2, 3, 6, 6)
    module = MaxPool2d(2)
    assert isinstance(module, nn.MaxPool2d)
    assert torch.equal(module(x), nn.MaxPool2d(2)(x))


def test_a_one_channel_model_is_exported_as_convolutions(tmp_path: Path) -> None:
    """The shortcuts of this package are how it computes, not what: they must not be exported."""
    onnx = pytest.importorskip("onnx")
    model = nn.Sequential(SparseConv2d(1, 4, 3, padding=1), MaxPool2d(2)).eval()
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own future
        torch.onnx.export(model, (torch.zeros(1, 1, 8, 8),), path, dynamo=False)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count("Conv") == 1
    assert operators.count("MaxPool") == 1
    assert not {"MatMul", "Gather", "Max"} & set(operators)
    exported = torch.export.export(model, (torch.zeros(1, 1, 8, 8),))
    assert "conv2d" in str(exported.graph)
    assert "bmm" not in str(exported.graph)
