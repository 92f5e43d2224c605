"""Changes to examples while training, a batch at a time.

Recordings are changed as features: decibels of frames and mel bands. Shifting repeats the outermost
frame, noise is added as power. That is what the same change to the sound would do, but for the
phases of the two powers, and it needs no recordings at hand.
"""

import math
from collections.abc import Callable

import torch
from torch.nn import functional

from trencadis_train.data.features import DECIBELS_PER_STEP
from trencadis_train.errors import TrainingError
from trencadis_train.recipe import Augmentation

__all__ = ["Augmenter", "add_power"]


def add_power(word: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Features of two sounds at the same time.

    Parameters
    ----------
    word, noise : float tensor of equal shape
        Features, in steps of `DECIBELS_PER_STEP`.
    """
    nepers = math.log(10) / 10 * DECIBELS_PER_STEP
    return torch.logaddexp(word * nepers, noise * nepers) / nepers


class Augmenter:
    """Changes batches as a recipe says.

    Parameters
    ----------
    recipe : Augmentation
        What to do, and how much of it.
    noise : float tensor, shape (clips, 1, frames, bands), optional
        Features of noise.

    Raises
    ------
    TrainingError
        If the recipe adds noise and there is none.
    """

    def __init__(self, recipe: Augmentation, noise: torch.Tensor | None = None) -> None:
        if recipe.noise and noise is None:
            raise TrainingError(
                f"augment.noise is {recipe.noise}, but the data have no recordings of noise; set "
                "it to 0, or add them (for speech-commands the folder _background_noise_, for npz "
                "the class that data.noise names)"
            )
        self._noise = noise
        steps: list[tuple[bool, Callable[[torch.Tensor, torch.Generator], torch.Tensor]]] = [
            (bool(recipe.flip), self._flip),
            (bool(recipe.rotate_degrees or recipe.zoom or recipe.shift), self._move),
            (bool(recipe.shift_frames), self._shift),
            (bool(recipe.gain_db), self._gain),
            (bool(recipe.noise), self._add_noise),
            (bool(recipe.mask_frames), self._mask_frames),
            (bool(recipe.mask_bands), self._mask_bands),
        ]
        self._recipe = recipe
        self._steps = [step for wanted, step in steps if wanted]

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Changed images.

        Parameters
        ----------
        images : float tensor, shape (batch, 1, rows, columns)
            Bytes, as floats in 0..255.
        generator : torch.Generator
            On the CPU; decides everything.

        Returns
        -------
        float tensor of the same shape, in 0..255
        """
        if not self._steps:
            return images
        for step in self._steps:
            images = step(images, generator)
        return images.clamp(0, 255)

    def _uniform(self, images: torch.Tensor, reach: float, g: torch.Generator) -> torch.Tensor:
        """A number in -reach..reach for every image."""
        return ((2 * torch.rand(len(images), generator=g) - 1) * reach).to(images.device)

    def _flip(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        chosen = (torch.rand(len(images), generator=g) < self._recipe.flip).to(images.device)
        return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)

    def _move(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        angle = self._uniform(images, math.radians(self._recipe.rotate_degrees), g)
        wide, high, shear = (1 + self._uniform(images, self._recipe.zoom, g) for _ in range(3))
        down, across = (
            self._uniform(images, 2 * self._recipe.shift / size, g) for size in images.shape[2:]
        )
        matrix = torch.stack(
            [
                torch.stack([angle.cos() * wide, -angle.sin() * wide + shear - 1, across], dim=1),
                torch.stack([angle.sin() * high, angle.cos() * high, down], dim=1),
            ],
            dim=1,
        )
        grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, align_corners=False)

    def _shift(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        reach, frames = self._recipe.shift_frames, images.shape[2]
        by = torch.randint(-reach, reach + 1, (len(images), 1), generator=g).to(images.device)
        source = (torch.arange(frames, device=images.device) - by).clamp(0, frames - 1)
        return images.gather(2, source[:, None, :, None].expand_as(images))

    def _gain(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        return images + self._uniform(images, self._recipe.gain_db / DECIBELS_PER_STEP, g).view(
            -1, 1, 1, 1
        )

    def _add_noise(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        assert self._noise is not None
        low, high = self._recipe.noise_snr_db
        clips = torch.randint(len(self._noise), (len(images),), generator=g)
        noise = self._noise[clips.to(self._noise.device)]
        chosen = (torch.rand(len(images), generator=g) < self._recipe.noise).to(images.device)
        ratio = low + (high - low) * torch.rand(len(images), generator=g).to(images.device)
        level = _loudness(images) - _loudness(noise) - ratio / DECIBELS_PER_STEP
        noisy = add_power(images, noise + level.view(-1, 1, 1, 1))
        return torch.where(chosen.view(-1, 1, 1, 1), noisy, images)

    def _mask_frames(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        return self._blank(images, self._recipe.mask_frames, 2, g)

    def _mask_bands(self, images: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        return self._blank(images, self._recipe.mask_bands, 3, g)

    def _blank(
        self, images: torch.Tensor, most: int, axis: int, g: torch.Generator
    ) -> torch.Tensor:
        """Put an image's mean in place of a stretch along an axis."""
        size = images.shape[axis]
        mean = images.mean(dim=(2, 3), keepdim=True)
        place = torch.arange(size)
        for _ in range(self._recipe.masks):
            width = torch.randint(0, most + 1, (len(images), 1), generator=g)
            start = (torch.rand(len(images), 1, generator=g) * (size - width + 1)).long()
            blank = ((place >= start) & (place < start + width)).to(images.device)
            shape = (len(images), 1, size, 1) if axis == 2 else (len(images), 1, 1, size)
            images = torch.where(blank.view(shape), mean, images)
        return images


def _loudness(images: torch.Tensor) -> torch.Tensor:
    """Loudness of every image, in steps: that of its mean power."""
    nepers = math.log(10) / 10 * DECIBELS_PER_STEP
    flat = images.flatten(1) * nepers
    return (torch.logsumexp(flat, dim=1) - math.log(flat.shape[1])) / nepers
