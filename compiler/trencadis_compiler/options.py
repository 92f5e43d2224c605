"""Options of a compile besides the model and the board, and the same read from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trencadis_compiler.errors import CompileError
from trencadis_compiler.importer.quantising.quantise_float import QuantiseOptions
from trencadis_format.compiled import Source

__all__ = ["Options", "options_of"]


@dataclass(frozen=True)
class Options:
    """Options of a compile besides the model and the board.

    Attributes
    ----------
    input_shapes : mapping of str to tuple of int
        Whole shapes of inputs whose sizes the model leaves open.
    input_nonzeros : int or None
        At most so many channels of an input position (of an input without positions: so many
        values) are not zero; the host then sends only those, with their indices.
    on_host, on_overlay : tuple of str
        Names of nodes that are to run there.
    fastest : bool
        Leave to the host what is modelled to be faster there, transfers included.
    sized : bool
        Grow the memories of the board's kernel to what the model needs: for simulation.
    strict : bool
        Refuse a model of which anything is left to the host.
    quantise : QuantiseOptions
        How to quantise a float model.
    """

    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    input_nonzeros: int | None = None
    on_host: tuple[str, ...] = ()
    on_overlay: tuple[str, ...] = ()
    fastest: bool = False
    sized: bool = False
    strict: bool = False
    quantise: QuantiseOptions = field(default_factory=QuantiseOptions)

    def __post_init__(self) -> None:
        if self.strict and self.fastest:
            raise CompileError(
                "--strict refuses what --place fastest leaves to the host; give one of them"
            )


def options_of(image: Path, source: Source) -> tuple[Options, str]:
    """The options that a file was compiled with, and its board.

    Raises
    ------
    CompileError
        If the file does not say.
    """
    values = dict(source.options)
    try:
        board, quantise = values.pop("board"), dict(values.pop("quantise"))
        for name in ("calibrated", "calibration"):
            values.pop(name, None)
        quantise["exclude"] = tuple(quantise["exclude"])
        for name in ("on_host", "on_overlay"):
            values[name] = tuple(values[name])
        shapes = {name: tuple(sizes) for name, sizes in values.pop("input_shapes").items()}
        options = Options(**values, input_shapes=shapes, quantise=QuantiseOptions(**quantise))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CompileError(
            f"{image}: does not tell the options that it was compiled with ({error}); give them"
        ) from error
    return options, str(board)
