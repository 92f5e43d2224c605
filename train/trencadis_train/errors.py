"""What the trainers say when they refuse something."""

__all__ = ["TrainingError"]


class TrainingError(ValueError):
    """A recipe, data set or model that cannot be trained, in one line with the remedy."""
