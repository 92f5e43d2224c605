import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from trencadis_train.data.augment import Augmenter
from trencadis_train.data.labelled import Labelled, Splits
from trencadis_train.recipe import Augmentation, Training
from trencadis_train.training.epoch import Examples, evaluate, train_epoch
from trencadis_train.training.loss import Objective
from trencadis_train.training.optimisers import load_optimizer, make_optimizer, optimizer_tensors
from trencadis_train.training.score import DivergedError, Score

CPU = torch.device("cpu")


def _model(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.Dropout(0.3), nn.Linear(8, 4))


def _epoch(
    model: nn.Module,
    examples: Examples,
    *,
    rate: float = 0.05,
    seed: int = 1,
    mixup: float = 0.0,
    batch: int = 16,
    optimizer: str = "sgd",
    steps: list[tuple[str, int]] | None = None,
) -> Score:
    noted = [] if steps is None else steps
    training = Training(learning_rate=rate, optimizer=optimizer)  # type: ignore[arg-type]
    return train_epoch(
        model,
        make_optimizer(model, training),
        examples,
        batch=batch,
        objective=Objective(),
        augmenter=Augmenter(Augmentation(shift=1)),
        mixup=mixup,
        precision=torch.float32,
        seed=seed,
        before_step=lambda number: noted.append(("before", number)),
        after_backward=lambda number: noted.append(("after", number)),
    )


@pytest.fixture
def examples(quadrants: Splits) -> Examples:
    return Examples.on(CPU, quadrants.train)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_epoch_learns(examples: Examples, optimizer: str) -> None:
    model = _model()
    before = evaluate(model, examples)
    rate = 0.05 if optimizer == "sgd" else 0.005
    for seed in range(4):
        _epoch(model, examples, rate=rate, seed=seed, optimizer=optimizer)
    after = evaluate(model, examples)
    assert after.loss < 0.7 * before.loss
    assert after.accuracy > 0.8


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_an_epoch_depends_on_its_seed_alone(examples: Examples, mixup: float) -> None:
    models = [_model() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(np.random.default_rng().integers(1 << 30).item())
        _epoch(model, examples, seed=seed, mixup=mixup)
    first, again, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_hooks_are_called_around_every_step(examples: Examples) -> None:
    steps: list[tuple[str, int]] = []
    _epoch(_model(), examples, batch=40, steps=steps)
    assert steps == [(kind, i) for i in range(3) for kind in ("before", "after")]


def test_a_last_batch_of_one_is_left_out(quadrants: Splits) -> None:
    part = quadrants.train
    odd = Examples.on(CPU, Labelled(part.images[:33], part.labels[:33]))
    steps: list[tuple[str, int]] = []
    _epoch(_model(), odd, batch=16, steps=steps)
    assert len(steps) == 4


def test_a_loss_that_is_not_finite_is_one_clear_error(examples: Examples) -> None:
    model = _model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1e30)
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) by batch 1 of the epoch"):
        _epoch(model, examples)


def test_evaluation_counts_and_restores_the_mode(quadrants: Splits) -> None:
    class Perfect(nn.Module):
        """Says which quadrant is brightest."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return 20 * nn.functional.avg_pool2d(x, 6).flatten(1)

    model = Perfect().train()
    score = evaluate(model, Examples.on(CPU, quadrants.test))
    assert score.accuracy == 1.0
    assert 0 < score.loss < 0.1
    assert model.training


def test_only_weights_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = make_optimizer(model, Training(learning_rate=0.1, momentum=0, weight_decay=0.5))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = model.state_dict()
    assert torch.allclose(after["0.weight"], before["0.weight"] * 0.95)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name], before[name])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_state_of_an_optimiser_comes_back(examples: Examples, kind: str) -> None:
    training = Training(learning_rate=0.01, optimizer=kind)  # type: ignore[arg-type]
    model, other = _model(), _model()
    first, second = make_optimizer(model, training), make_optimizer(other, training)

    def step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        optimizer.zero_grad()
        torch.manual_seed(number)
        network(examples.inputs()[:16]).square().sum().backward()
        optimizer.step()

    for number in range(3):
        step(model, first, number)
    other.load_state_dict(model.state_dict())
    load_optimizer(second, optimizer_tensors(first))
    step(model, first, 9)
    step(other, second, 9)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_mixing_shares_the_loss() -> None:
    outputs = torch.randn(5, 4)
    inputs = torch.zeros(5, 1, 2, 2)
    labels, other = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3])
    objective = Objective(0.1)
    alone = [objective(outputs, inputs, target, target, 1.0) for target in (labels, other)]
    mixed = objective(outputs, inputs, labels, other, 0.3)
    torch.testing.assert_close(mixed, 0.3 * alone[0] + 0.7 * alone[1])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_student_is_compared_with_its_teacher(temperature: float) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    inputs, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    objective = Objective(teachers=[teacher], weight=0.5, temperature=temperature)
    own = teacher(inputs).detach()
    entropy = nn.functional.cross_entropy(own, labels)
    torch.testing.assert_close(objective(own, inputs, labels, labels, 1.0), 0.5 * entropy)
    other = (own + torch.tensor([3.0, 0.0, 0.0])).requires_grad_()
    loss = objective(other, inputs, labels, labels, 1.0)
    opinion = (own / temperature).softmax(dim=1)
    distance = (opinion * (opinion.log() - (other / temperature).log_softmax(dim=1))).sum(dim=1)
    expected = 0.5 * nn.functional.cross_entropy(other, labels)
    expected = expected + 0.5 * temperature**2 * distance.mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert other.grad is not None


def test_several_teachers_teach_the_mean_of_their_outputs() -> None:
    teachers = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval() for _ in range(3)]
    inputs, labels = torch.randn(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    outputs = torch.randn(6, 3)
    with torch.no_grad():
        mean = sum(teacher(inputs) for teacher in teachers) / 3
    assert isinstance(mean, torch.Tensor)

    class Mean(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return mean

    given = (outputs, inputs, labels, labels, 1.0)
    expected = Objective(teachers=[Mean()])(*given)
    torch.testing.assert_close(Objective(teachers=teachers)(*given), expected)
    alone = Objective(teachers=teachers[:1])(*given)
    assert not torch.allclose(alone, expected)
