"""`python -m trencadis_flows`."""

from trencadis_flows.cli import main

__all__: list[str] = []

main(prog_name="python -m trencadis_flows")
