"""`python -m trencadis_hw.flows`."""

from trencadis_hw.flows.cli import main

__all__: list[str] = []

main(prog_name="python -m trencadis_hw.flows")
