"""Choice of the device to compute on."""

import torch

from trencadis_train.errors import TrainingError

__all__ = ["choose_device"]


def choose_device(name: str) -> torch.device:
    """The device of a name as PyTorch has them; `auto` is a GPU if there is one.

    Raises
    ------
    TrainingError
        If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TrainingError(
            f"--device must be a device that PyTorch can use here, not {name!r}; try cpu"
        ) from error
    return device
