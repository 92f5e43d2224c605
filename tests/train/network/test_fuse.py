import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.errors import TrainingError
from trencadis_train.network.fuse import folded, split_stages
from trencadis_train.network.k_winners import KWinners, KWinners2d
from trencadis_train.network.layers import PooledBatchNorm2d


def test_splits_a_model_into_stages() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.MaxPool2d(2),
        PooledBatchNorm2d(4),
        nn.ReLU(),
        KWinners2d(2, 4),
        nn.Dropout2d(0.1),
        nn.Flatten(),
        nn.Linear(36, 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        KWinners(2, 5),
        nn.Identity(),
        nn.Linear(5, 3),
    )
    first, second, third = split_stages(model)
    assert (first.name, first.flatten, first.pool, first.relu) == ("0", False, (2, 2), True)
    assert first.norm is model[2]
    assert first.winners is model[4]
    assert (second.name, second.flatten, second.pool, second.relu) == ("7", True, None, True)
    assert second.winners is model[10]
    assert (third.name, third.relu, third.norm, third.winners) == ("12", False, None, None)


CONV = nn.Conv2d(1, 4, 3)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "no convolution and no fully connected layer"),
        ([nn.ReLU()], r"module '0' \(ReLU\) must follow a convolution"),
        ([nn.Flatten(), nn.ReLU()], r"module '1' \(ReLU\) must follow a convolution"),
        ([CONV, nn.Flatten(2)], "must flatten all axes but the first"),
        ([CONV, nn.Flatten(), nn.ReLU()], r"module '2' \(ReLU\) must follow"),
        ([nn.Conv2d(4, 4, 3, groups=2)], "one group, and padding by numbers"),
        ([nn.Conv2d(1, 4, 3, padding="same")], "one group, and padding by numbers"),
        ([nn.Conv2d(1, 4, 3, padding_mode="circular")], "one group, and padding by numbers"),
        ([nn.Conv2d(1, 4, 3, dilation=2)], r"must not be dilated, its dilation is \(2, 2\)"),
        ([CONV, nn.Sigmoid()], r"module '1' \(Sigmoid\) is nothing the hardware computes"),
        ([CONV, nn.MaxPool2d(2), nn.MaxPool2d(2)], "second max-pooling of a layer"),
        ([CONV, nn.MaxPool2d(2, stride=1)], "steps as large as its window, and no padding"),
        ([CONV, nn.MaxPool2d(2, padding=1)], "steps as large as its window, and no padding"),
        ([CONV, nn.MaxPool2d(2, ceil_mode=True)], "steps as large as its window"),
        ([CONV, nn.ReLU(), nn.BatchNorm2d(4)], "must follow its layer before ReLU"),
        ([CONV, nn.MaxPool2d(2), nn.BatchNorm2d(4)], "use PooledBatchNorm2d"),
        ([CONV, nn.BatchNorm2d(4, track_running_stats=False)], "keeps no running statistics"),
        ([CONV, KWinners2d(2, 4)], "needs a ReLU before it"),
        ([CONV, nn.ReLU(), KWinners2d(2, 4), nn.MaxPool2d(2)], "follows k-WTA"),
        ([CONV, nn.ReLU(), KWinners2d(2, 4)], "the last layer has k-WTA"),
    ],
)
def test_refuses_what_the_hardware_cannot_compute(modules: list[nn.Module], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        split_stages(nn.Sequential(*modules))


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_batch_norm_changes_no_result(pooled: bool, bias: bool) -> None:
    torch.manual_seed(3)
    norm = PooledBatchNorm2d(4) if pooled else nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.5, -0.5, 2.0, 0.0]))
        norm.bias.normal_()
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=bias), norm).double()
    for _ in range(5):
        model(torch.randn(8, 2, 6, 6, dtype=torch.float64))
    model.eval()
    (stage,) = split_stages(model)
    weight, shift = folded(stage)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    # Real numbers, added up in another order.
    torch.testing.assert_close(nn.functional.conv2d(x, weight, shift), model(x))


def test_folding_stays_on_the_device_of_the_model() -> None:
    # Of the devices that every machine has, "meta" is the one that is not the CPU.
    model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)).to("meta")
    weight, bias = folded(split_stages(model)[0])
    assert weight.device.type == bias.device.type == "meta"
