"""Entry point of `sparse-verify`: tells which extra is missing in a light installation."""

from trencadis_format.command_line import load_command

__all__ = ["main"]


def main() -> None:
    """Run `sparse-verify`."""
    load_command("sparse-verify", "trencadis_bench.verify.cli", "compiler")()
