"""Edge colouring of bipartite graphs."""

from collections.abc import Sequence

__all__ = ["colour_edges"]


def colour_edges(edges: Sequence[tuple[int, int]], colours: int) -> list[int]:
    """Colour edges such that no two at a node are equal.

    König's theorem: a bipartite graph needs no more colours than its largest degree. Each edge gets
    a colour that is free at its left end; where that colour is taken at the right end, the path
    that alternates between it and a colour free there is recoloured.

    Parameters
    ----------
    edges : sequence of (int, int)
        Left and right node of every edge.
    colours : int
        Colours to use.

    Returns
    -------
    list of int
        A colour 0..colours-1 for every edge.

    Raises
    ------
    ValueError
        If a node has more edges than there are colours.
    """
    at: dict[tuple[str, int], dict[int, int]] = {}

    def free(node: tuple[str, int]) -> int:
        taken = at.setdefault(node, {})
        for colour in range(colours):
            if colour not in taken:
                return colour
        raise ValueError(f"node {node[1]} has more than {colours} edges")

    result = [0] * len(edges)
    for edge, (left, right) in enumerate(edges):
        a, b = ("left", left), ("right", right)
        wanted, other = free(a), free(b)
        if wanted not in at[b]:
            other = wanted
        # From b, edges of colours `wanted` and `other` alternate; swap them along that path. It
        # cannot come back to a, where `wanted` is free.
        node, colour, path = b, wanted, []
        while colour in at[node]:
            crossed = at[node][colour]
            path.append((crossed, colour))
            ends = ("left", edges[crossed][0]), ("right", edges[crossed][1])
            node = ends[0] if ends[1] == node else ends[1]
            at.setdefault(node, {})
            colour = other if colour == wanted else wanted
        for crossed, old in path:
            for end in (("left", edges[crossed][0]), ("right", edges[crossed][1])):
                if at[end].get(old) == crossed:
                    del at[end][old]
        for crossed, old in path:
            new = other if old == wanted else wanted
            result[crossed] = new
            at["left", edges[crossed][0]][new] = crossed
            at["right", edges[crossed][1]][new] = crossed
        result[edge] = wanted
        at[a][wanted] = edge
        at[b][wanted] = edge
    return result
