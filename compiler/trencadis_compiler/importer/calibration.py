"""The error of calibration data: inputs that show what values and how many of them are usual."""

from trencadis_format.errors import InputError

__all__ = ["CalibrationError"]


class CalibrationError(InputError):
    """Calibration data do not fit the model. One line: input, rule, what came."""
