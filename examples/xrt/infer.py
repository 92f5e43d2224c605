"""Inference from Python: one program for the emulator, simulated RTL, XRT and its emulation.

python infer.py model.tcd inputs.npy outputs.npy xrt:0@kernel.xclbin
"""

import sys

import numpy as np

from trencadis_host import ContainerError, DeviceError, InputError, Session


def main(model: str, inputs: str, outputs: str, device: str = "emulator") -> None:
    """Run inputs through a compiled model, and say what it took."""
    with Session(model, device) as session:
        name = session.get_inputs()[0].name
        (results,) = session.run(None, {name: np.load(inputs)})
        np.save(outputs, results)
        print(session.statistics)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: infer.py MODEL INPUTS OUTPUTS [DEVICE]")
    try:
        main(*sys.argv[1:])
    except (ContainerError, DeviceError, InputError, OSError) as error:
        sys.exit(f"infer.py: {error}")
