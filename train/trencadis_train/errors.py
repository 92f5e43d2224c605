"""Errors of the trainers."""

from trencadis_format.errors import UserError

__all__ = ["TrainingError"]


class TrainingError(UserError):
    """A recipe, data set or model that cannot be trained, in one line with the remedy."""
