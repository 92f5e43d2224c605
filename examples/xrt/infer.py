"""Inference from Python: one program for the emulator, simulated RTL, XRT and its emulation.

python infer.py model.tcd inputs.npy outputs.npy xrt:0@kernel.xclbin
"""

import sys
from pathlib import Path

from trencadis_format.command_line import reported
from trencadis_format.files import load_array, save_array
from trencadis_host import Session


def main(model: str, inputs: str, outputs: str, device: str = "emulator") -> None:
    """Run inputs through a compiled model, and say what it took."""
    with Session(model, device) as session:
        name = session.get_inputs()[0].name
        (results,) = session.run(None, {name: load_array(Path(inputs))})
        save_array(Path(outputs), results)
        print(session.statistics)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: infer.py MODEL INPUTS OUTPUTS [DEVICE]")
    with reported("infer.py"):
        main(*sys.argv[1:])
