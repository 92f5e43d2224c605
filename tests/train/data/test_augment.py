import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from trencadis_train.data.augment import Augmenter, add_power
from trencadis_train.data.features import DECIBELS_PER_STEP
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Augmentation


def _images(count: int = 16, size: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(40, 200, (count, 1, size, size), generator=generator).float()


def _run(
    recipe: Augmentation, images: torch.Tensor, seed: int = 7, noise: torch.Tensor | None = None
) -> torch.Tensor:
    return Augmenter(recipe, noise)(images.clone(), torch.Generator().manual_seed(seed))


ALL = [
    Augmentation(rotate_degrees=20, zoom=0.1, shift=2),
    Augmentation(shift_frames=3),
    Augmentation(gain_db=6),
    Augmentation(noise=0.5),
    Augmentation(mask_frames=4),
    Augmentation(mask_bands=4, masks=2),
]


def test_pictures_are_mirrored_left_to_right() -> None:
    images = _images(64)
    found = _run(Augmentation(flip=0.5), images)
    kept = (found == images).flatten(1).all(dim=1)
    mirrored = (found == images.flip(3)).flatten(1).all(dim=1)
    assert (kept ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


@pytest.mark.parametrize("recipe", ALL)
def test_changes_depend_on_the_generator_alone(recipe: Augmentation) -> None:
    images, noise = _images(), _images(3)
    first = _run(recipe, images, noise=noise)
    assert first.shape == images.shape
    assert torch.equal(first, _run(recipe, images, noise=noise))
    assert not torch.equal(first, _run(recipe, images, seed=8, noise=noise))
    assert not torch.equal(first, images)
    assert first.min() >= 0
    assert first.max() <= 255


def test_without_numbers_nothing_changes() -> None:
    images = _images()
    assert torch.equal(_run(Augmentation(), images), images)


def test_noise_needs_recordings() -> None:
    with pytest.raises(TrainingError, match=r"augment\.noise is 0\.3, but the data have no"):
        Augmenter(Augmentation(noise=0.3))


def test_shifting_moves_frames_and_repeats_the_outermost() -> None:
    images = _images(64)
    shifted = _run(Augmentation(shift_frames=2), images)
    seen = set()
    for before, after in zip(images[:, 0], shifted[:, 0], strict=True):
        for by in range(-2, 3):
            rows = (torch.arange(12) - by).clamp(0, 11)
            if torch.equal(after, before[rows]):
                seen.add(by)
                break
        else:
            raise AssertionError("not a shift by up to two frames")
    assert seen == {-2, -1, 0, 1, 2}


def test_gain_adds_the_same_to_a_whole_recording() -> None:
    images = _images(64)
    steps = (_run(Augmentation(gain_db=6), images) - images).flatten(1)
    assert (steps.amax(dim=1) - steps.amin(dim=1)).max() < 1e-3
    assert steps.abs().max() <= 6 / DECIBELS_PER_STEP + 1e-3
    assert steps.min() < 0 < steps.max()


@pytest.mark.parametrize(
    ("recipe", "axis"), [(Augmentation(mask_frames=4), 1), (Augmentation(mask_bands=4), 2)]
)
def test_a_stretch_is_blanked_out_with_the_mean(recipe: Augmentation, axis: int) -> None:
    images = _images(64)
    masked = _run(recipe, images)
    widths = set()
    for before, after in zip(images[:, 0], masked[:, 0], strict=True):
        changed = (before != after).any(dim=2 - axis)
        places = changed.nonzero()[:, 0]
        widths.add(len(places))
        if len(places):
            assert len(places) == places[-1] - places[0] + 1
            blank = after[places] if axis == 1 else after[:, places]
            torch.testing.assert_close(blank, before.mean().expand_as(blank))
    assert widths == {0, 1, 2, 3, 4}


def test_noise_is_added_to_some_at_the_ratio_wanted() -> None:
    word, noise = torch.full((400, 1, 4, 4), 150.0), torch.full((1, 1, 4, 4), 30.0)
    recipe = Augmentation(noise=0.25, noise_snr_db=(0, 0))
    noisy = _run(recipe, word, noise=noise)
    changed = (noisy != word).flatten(1).any(dim=1)
    assert 0.15 < changed.float().mean() < 0.35
    # Two equal powers are 3 dB more than one.
    steps = 10 * math.log10(2) / DECIBELS_PER_STEP
    torch.testing.assert_close(noisy[changed], word[changed] + steps)


def test_powers_add_up_in_decibels() -> None:
    words = np.array([100.0, 100.0, 40.0])
    noises = np.array([100.0, 20.0, 90.0])
    power = 10 ** (words * DECIBELS_PER_STEP / 10) + 10 ** (noises * DECIBELS_PER_STEP / 10)
    expected = 10 * np.log10(power) / DECIBELS_PER_STEP
    found = add_power(torch.from_numpy(words), torch.from_numpy(noises)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_moving_pictures_keeps_most_of_them() -> None:
    picture = torch.zeros(32, 1, 28, 28)
    picture[:, :, 10:18, 10:18] = 200
    moved = _run(Augmentation(shift=3), picture)
    weights = moved[:, 0] / moved.sum(dim=(1, 2, 3))[:, None, None]
    place = torch.arange(28.0)
    down = (weights.sum(dim=2) * place).sum(dim=1) - 13.5
    across = (weights.sum(dim=1) * place).sum(dim=1) - 13.5
    assert down.abs().max() <= 3.01
    assert down.abs().max() > 1.5
    assert across.abs().max() <= 3.01
    assert across.abs().max() > 1.5
