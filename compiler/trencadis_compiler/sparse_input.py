"""Networks whose input is sent as indices and values of what is not zero."""

from dataclasses import replace

from trencadis_boards import Board
from trencadis_compiler.errors import CompileError
from trencadis_compiler.ir.network import Network
from trencadis_format.widths import INPUT_INDEX_BITS

__all__ = ["with_sparse_input"]


def with_sparse_input(network: Network, board: Board, nonzeros: int) -> Network:
    """The network with an input of which only so many channels of a position are sent."""
    source = network.input
    channels = source.shape[0]
    if not 1 <= nonzeros <= channels:
        raise CompileError(
            f"an input position has {channels} channels; {nonzeros} of them cannot be not zero: "
            f"choose 1..{channels}"
        )
    if channels > 1 << INPUT_INDEX_BITS:
        raise CompileError(
            f"an input position has {channels} channels; a sparse input may have "
            f"{1 << INPUT_INDEX_BITS}: compile for a dense input, or use a narrower layer"
        )
    if not board.kernel.core.sparse_input:
        raise CompileError(
            f"the kernel of board {board.name!r} takes dense inputs only; choose one with "
            "sparse_input = true, or compile for a dense input"
        )
    sparse = replace(source, nonzeros=nonzeros)
    values = tuple(sparse if value is source else value for value in network.values)
    return replace(network, values=values)
