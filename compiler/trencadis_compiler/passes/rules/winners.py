"""k-WTA, as the pass `k_winners` left it."""

from dataclasses import replace

from trencadis_compiler.importer.graph import K_WINNERS, Node
from trencadis_compiler.ir.network import Winners
from trencadis_compiler.passes.base.context import Context, resolved
from trencadis_compiler.passes.base.operator import Operator, integer, integers
from trencadis_compiler.passes.base.state import ActivationMap, State, Unsupported
from trencadis_format.layer_tables import Selection

__all__ = ["OPERATORS"]


def _select(context: Context, node: Node) -> State:
    source = resolved(context.map(node), str(node))
    if source.draft is None:
        raise Unsupported(node, "k-WTA on a tensor that no layer before it makes")
    if source.quantisation is None:
        raise Unsupported(node, "k-WTA on activations that are not quantised; quantise its input")
    if source.draft.winners is not None:
        raise Unsupported(node, "a second k-WTA on one layer; keep the one with fewer winners")
    rank = len(source.axes) + 1
    axes = [int(axis) for axis in node.attributes["axes"]]
    axis = axes[0] % rank
    if not all(-rank <= other < rank and other % rank == axis for other in axes):
        raise Unsupported(
            node, f"k-WTA selects along axes {axes} of {rank}, which are not the same"
        )
    letters = source.axes[axis - 1] if axis else ""
    whole = len(source.axes) == 1
    # On an axis without the channels every index of a single position would win.
    if "C" not in letters or (letters != "C" and source.positions > 1):
        raise Unsupported(
            node,
            f"k-WTA over axis {axis}; the overlay selects among the channels of a position, or "
            "among the outputs of a fully connected layer: use axis 1",
        )
    k, channels = int(node.attributes["k"]), source.sizes["C"]
    if not 1 <= k <= channels:
        raise Unsupported(node, f"k is {k}; it must be in 1..{channels}, the channels")
    _check_filled(node, source)
    selection = Selection.EXACT if node.attributes["exact"] else Selection.THRESHOLD
    draft = replace(source.draft, winners=Winners(k, selection, whole))
    return replace(source, draft=draft, unselected=source)


def _check_filled(node: Node, source: ActivationMap) -> None:
    """Refuse zeros of other sizes than the map's, into which winners would be spread."""
    filled = [int(size) for size in node.attributes.get("filled", [])]
    sizes = [source.batch, *source.shape]
    fits = len(filled) <= len(sizes) and all(
        have in (1, want) for have, want in zip(reversed(filled), reversed(sizes), strict=False)
    )
    if not fits:
        raise Unsupported(
            node, f"k-WTA of a map {['N', *source.shape]} into zeros of sizes {filled}"
        )


OPERATORS = {
    K_WINNERS: Operator(
        _select,
        (1, 1),
        {"axes": integers(), "k": integer(), "exact": integer(0, 1), "filled": integers()},
    )
}
