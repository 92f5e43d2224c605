"""Quantisation-aware training: real weights, seen through the rounding of the hardware.

While training, weights and activations are rounded to the grid of the integers, and gradients pass
the rounding as if it were not there (straight through). In evaluation the network computes on the
integers themselves, exactly as the exported model does.
"""

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trencadis_train.errors import TrainingError
from trencadis_train.network.fuse import Stage, folded, split_stages
from trencadis_train.network.integers import MAX_BYTE, ByteScale, IntegerLayer, IntegerNetwork
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.kernels import convolve, max_pool

__all__ = ["QuantisedNetwork"]

MAX_WEIGHT = 127
MAX_BIAS = float(1 << 30)
"""Biases stay well inside 32 bits."""

CLIPS = np.linspace(0.3, 1.0, 36)
"""Parts of the largest activation at which clipping is tried."""

MAX_DIFFERENCE = 0.02
"""Difference of a model's outputs from those of its stages, as a part of their spread."""

SAMPLES = 200_000
"""Activations of a layer and batch on which clipping is tried."""


class QuantisedNetwork(nn.Module):
    """A trained model as a network of integers that can be trained on.

    Batch-norm is folded into weights and biases, whose masks stay. `calibrate` must be called
    before anything else.

    Parameters
    ----------
    model : nn.Module
        A chain of stages, see `stages.split_stages`; its `forward` is traced.
    input_shape : (channels, rows, columns)
        Input shape of an example.
    input_scale : float
        Real value of a step of the input; inputs are bytes times this number.
    name : str
        Name of the network.

    Raises
    ------
    TrainingError
        If the model has modules that the hardware cannot compute.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        input_shape: tuple[int, int, int],
        input_scale: float,
        name: str = "network",
    ) -> None:
        super().__init__()
        self.name = name
        self.input_shape = input_shape
        self.input = ByteScale(np.float32(input_scale), 0)
        self.stages = nn.ModuleList(_QuantisedStage(stage) for stage in split_stages(model))
        # In a tuple, so that it is no part of this one; until it has been compared.
        self._original: tuple[nn.Module, ...] = (model,)

    @property
    def _stages(self) -> list["_QuantisedStage"]:
        return [cast(_QuantisedStage, stage) for stage in self.stages]

    def calibrate(self, batches: Iterable[torch.Tensor]) -> None:
        """Choose the quantisation of every layer's output.

        After ReLU it is the scale with the least squared error; others hold all that is seen.

        Parameters
        ----------
        batches : iterable of float tensor
            Real inputs, as in training. They are all held in memory.

        Raises
        ------
        TrainingError
            If there are none, or the model computes something else than its stages.
        """
        with torch.no_grad():
            current = [self._fake_input(batch) for batch in batches]
            if not current:
                raise TrainingError("calibration needs at least one batch of inputs")
            self._compare(current[0])
            for stage in self._stages:
                real = [stage.real(x) for x in current]
                values = torch.cat([x.flatten() for x in real])
                # Outputs are compared with one another, so the largest ones are not clipped.
                if stage is self._stages[-1] or not stage.relu:
                    stage.cover(values)
                else:
                    stage.out_scale.fill_(_best_scale(values))
                current = [stage.select(stage.quantise(x)) for x in real]

    def _compare(self, inputs: torch.Tensor) -> None:
        """Refuse a model whose outputs are not those of its stages in real numbers."""
        for model in self._original:
            modes = [(module, module.training) for module in model.modules()]
            model.eval()
            device = next(model.parameters()).device
            expected = model(inputs.to(device)).to(inputs.device)
            for module, mode in modes:
                module.training = mode
            found = inputs
            for stage in self._stages:
                found = stage.select(stage.unrounded(found))
            same = found.shape == expected.shape
            spread = float((expected - expected.mean()).abs().mean()) + 1e-6
            error = float((found - expected).abs().mean()) / spread if same else float("inf")
            # A winner of k-WTA may be another where two are nearly equal.
            if not error < MAX_DIFFERENCE:
                raise TrainingError(
                    f"the model must compute what its layers do one after the other, but its "
                    f"outputs differ by {error:.3g} of their spread; use nn.Sequential"
                )
        self._original = ()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Real outputs: through rounding while training, on integers otherwise."""
        if not self.training:
            return self.integers()(inputs)
        x = self._fake_input(inputs)
        for stage in self._stages[:-1]:
            x = stage.select(stage.quantise(stage.real(x)))
        return self._stages[-1].real(x)

    def integers(self) -> IntegerNetwork:
        """The network as integers, a copy."""
        layers, source = [], self.input
        for stage in self._stages:
            layers.append(stage.integers(source))
            source = layers[-1].output
        return IntegerNetwork(self.name, self.input_shape, tuple(layers))

    def _fake_input(self, inputs: torch.Tensor) -> torch.Tensor:
        return (self.input.quantise(inputs) * float(self.input.scale)).float()


class _QuantisedStage(nn.Module):
    """One stage: its folded layer, and the quantisation of its output."""

    mask: torch.Tensor
    out_scale: torch.Tensor
    out_zero: torch.Tensor

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        weight, bias = folded(stage)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.register_buffer("mask", weight != 0)
        self.register_buffer("out_scale", torch.ones(()))
        self.register_buffer("out_zero", torch.zeros((), dtype=torch.int64))
        self.winners = _fresh(stage.winners)
        self._stage_name = stage.name
        self._flatten = stage.flatten
        self.relu = stage.relu
        self._pool = stage.pool
        self._stride, self._padding = (1, 1), (0, 0)
        if isinstance(stage.layer, nn.Conv2d):
            self._stride = cast(tuple[int, int], stage.layer.stride)
            self._padding = cast(tuple[int, int], stage.layer.padding)

    def unrounded(self, x: torch.Tensor) -> torch.Tensor:
        """Real sums of real inputs, pooled, ReLU applied, nothing rounded."""
        return self._sums(x, self.weight * self.mask)

    def real(self, x: torch.Tensor) -> torch.Tensor:
        """Real sums of real inputs by rounded weights, pooled, ReLU applied."""
        weight = self.weight * self.mask
        scale = self._weight_scale(weight).view(-1, *[1] * (weight.ndim - 1))
        weight = _round(weight / scale).clamp(-MAX_WEIGHT, MAX_WEIGHT) * scale
        return self._sums(x, weight)

    def _sums(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1) if self._flatten else x
        if weight.ndim == 2:
            x = functional.linear(x, weight, self.bias)
        else:
            x = convolve(x, weight, self.bias, self._stride, self._padding)
        if self._pool is not None:
            x = max_pool(x, self._pool)
        return x.relu() if self.relu else x

    def quantise(self, x: torch.Tensor) -> torch.Tensor:
        """Round real activations to the grid of the output."""
        low = -float(self.out_zero)
        steps = _round(x.float() / self.out_scale).clamp(low, low + MAX_BYTE)
        return steps * self.out_scale

    def cover(self, values: torch.Tensor) -> None:
        """Choose an output that holds real values, positive and negative."""
        low, high = float(values.min().clamp(max=0)), float(values.max().clamp(min=0))
        # A tenth of margin on both sides, for inputs that calibration did not see.
        scale = max(1.2 * (high - low), 1e-6) / MAX_BYTE
        zero = round((0.1 * (high - low) - low) / scale)
        self.out_scale.fill_(scale)
        self.out_zero.fill_(min(max(zero, 0), MAX_BYTE))

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """k-WTA."""
        return x if self.winners is None else self.winners(x)

    def integers(self, source: ByteScale) -> IntegerLayer:
        """The stage as integers, after a tensor of the given quantisation."""
        with torch.no_grad():
            weight = (self.weight * self.mask).double()
            scale = self._weight_scale(weight.float(), float(source.scale))
            wide = scale.double().view(-1, *[1] * (weight.ndim - 1))
            integers = torch.round(weight / wide).clamp(-MAX_WEIGHT, MAX_WEIGHT)
            weight_scale = scale.cpu().numpy().astype(np.float32)
            bias_scale = np.float32(source.scale) * weight_scale
            bias = np.rint(self.bias.double().cpu().numpy() / bias_scale.astype(np.float64))
        return IntegerLayer(
            name=self._stage_name,
            weights=integers.cpu().numpy().astype(np.int8),
            weight_scale=weight_scale,
            bias=bias.astype(np.int32),
            bias_scale=bias_scale,
            stride=self._stride,
            padding=self._padding,
            flatten=self._flatten,
            relu=self.relu,
            pool=self._pool,
            input=source,
            output=ByteScale(np.float32(self.out_scale.item()), int(self.out_zero.item())),
            k=None if self.winners is None else self.winners.k,
        )

    def _weight_scale(self, weight: torch.Tensor, input_scale: float | None = None) -> torch.Tensor:
        """A scale for every kernel: its largest weight becomes 127, and its bias fits 32 bits."""
        scale = weight.detach().abs().flatten(1).amax(dim=1) / MAX_WEIGHT
        if input_scale is not None:
            scale = torch.maximum(scale, self.bias.detach().abs() / (input_scale * MAX_BIAS))
        return scale.clamp(min=1e-9)


def _fresh(winners: KWinners | KWinners2d | None) -> KWinners | KWinners2d | None:
    return None if winners is None else type(winners)(winners.k, winners.units)


def _round(x: torch.Tensor) -> torch.Tensor:
    """Round half to even; gradients pass straight through."""
    return x + (torch.round(x) - x).detach()


def _best_scale(values: torch.Tensor) -> float:
    """The scale at which positive values lose least, in squares, by rounding and clipping."""
    values = values[values > 0]
    if not len(values):
        return 1.0 / MAX_BYTE
    largest = float(values.max())
    values = values[:: max(1, len(values) // SAMPLES)].double()
    errors = []
    for clip in CLIPS:
        scale = clip * largest / MAX_BYTE
        kept = torch.round(values / scale).clamp(max=MAX_BYTE) * scale
        errors.append(float((kept - values).square().sum()))
    return float(CLIPS[int(np.argmin(errors))]) * largest / MAX_BYTE
