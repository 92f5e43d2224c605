"""Usual PyTorch networks, small and untrained but for pruning, to be exported and compiled."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ARCHITECTURES", "example_input"]

Make = Callable[[], nn.Module]


class Sequence(nn.Module):
    """A network whose forward is a function of its parts."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Run the parts."""
        return self.parts(x)


def _pruned(network: nn.Module, keep: float) -> nn.Module:
    """Set all but the largest weights of each layer to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights = module.weight.data
            count = max(1, int(keep * weights.numel()))
            threshold = weights.abs().flatten().topk(count).values[-1]
            weights[weights.abs() < threshold] = 0
    return network


def _lenet() -> nn.Module:
    network = Sequence(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )
    return _pruned(network, 0.1)


class _Residual(nn.Module):
    """Two convolutions, and what goes past them."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.past: nn.Module = nn.Identity()
        if stride > 1 or before != channels:
            self.past = nn.Sequential(
                nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Add both ways."""
        y = functional.relu(self.norm(self.first(x)))
        return functional.relu(self.norm2(self.second(y)) + self.past(x))


def _resnet20() -> nn.Module:
    blocks: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        for number in range(3):
            blocks.append(_Residual(before, channels, stride if not number else 1))
            before = channels
    return Sequence(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class _Bottleneck(nn.Module):
    """MobileNetV2's block: wide inside, depthwise, linear at its end."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inside = 4 * before
        self.body = nn.Sequential(
            nn.Conv2d(before, inside, 1, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            nn.ReLU6(),
            nn.Conv2d(inside, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.past = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Add what goes past, if the shapes are the same."""
        y = self.body(x)
        return x + y if self.past else y


def _mobilenet() -> nn.Module:
    return Sequence(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.Hardswish(),
        _Bottleneck(16, 16, 1),
        _Bottleneck(16, 24, 2),
        _Bottleneck(24, 24, 1),
        _Bottleneck(24, 32, 2),
        nn.Conv2d(32, 128, 1),
        nn.SiLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


def _keywords() -> nn.Module:
    return Sequence(
        nn.Conv1d(40, 32, 5, padding=2),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 48, 3, stride=2, padding=1),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(48, 12),
        nn.Softmax(dim=1),
    )


class _Causal(nn.Module):
    """A residual block of a temporal convolutional network: pads before, never after."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.convolution = nn.Conv1d(channels, channels, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, convolve and add."""
        return functional.relu(self.convolution(functional.pad(x, (self.pad, 0)))) + x


class _Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(8, 16, 1)
        self.blocks = nn.Sequential(*(_Causal(16, 2**number) for number in range(3)))
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the last step."""
        return self.last(self.blocks(self.first(x))[:, :, -1])


def _mlp() -> nn.Module:
    return Sequence(
        nn.Linear(64, 128),
        nn.LayerNorm(128),
        nn.GELU(),
        nn.Linear(128, 128),
        nn.GELU(),
        nn.Linear(128, 10),
    )


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.last = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Classify by the last step."""
        states, _ = self.lstm(x)
        return self.last(states[:, -1])


class _Attention(nn.Module):
    """Self-attention of some heads, written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens."""
        batch, tokens, width = x.shape
        q, k, v = (
            part(x).reshape(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(2, 3) / (width // self.heads) ** 0.5, dim=-1)
        return self.output((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class _Encoder(nn.Module):
    """A transformer's encoder layer, normalising after each part."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.attention = _Attention(width, heads)
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attention and two layers on each token."""
        x = self.norm(x + self.attention(x))
        return self.norm2(x + self.narrow(functional.gelu(self.wide(x))))


class _UNet(nn.Module):
    """Down and up again, with what was at each size put beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.up, self.last = nn.Conv2d(48, 16, 3, padding=1), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify every pixel."""
        wide = functional.relu(self.down(x))
        deep = functional.relu(self.middle(functional.max_pool2d(wide, 2)))
        again = functional.interpolate(deep, scale_factor=2, mode="nearest")
        return self.last(functional.relu(self.up(torch.cat([again, wide], dim=1))))


ARCHITECTURES: Mapping[str, tuple[Make, tuple[int, ...]]] = {
    "lenet-pruned": (_lenet, (1, 28, 28)),
    "resnet20": (_resnet20, (3, 32, 32)),
    "mobilenet": (_mobilenet, (3, 32, 32)),
    "keywords-1d": (_keywords, (40, 50)),
    "tcn": (_Tcn, (8, 32)),
    "mlp-layernorm-gelu": (_mlp, (64,)),
    "lstm": (_Lstm, (12, 16)),
    "transformer-layer": (_Encoder, (16, 64)),
    "unet": (_UNet, (3, 32, 32)),
}
"""Networks by name: how they are made, and the shape of an input without its batch."""


def example_input(shape: tuple[int, ...]) -> Tensor:
    """One input."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
