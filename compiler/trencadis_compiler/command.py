"""Entry point of `sparse-compile`: tells which extra is missing in a light installation."""

from trencadis_format.command_line import load_command

__all__ = ["main"]


def main() -> None:
    """Run `sparse-compile`."""
    load_command("sparse-compile", "trencadis_compiler.cli", "compiler")()
