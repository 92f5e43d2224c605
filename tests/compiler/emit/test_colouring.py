from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trencadis_compiler.emit.colouring import colour_edges


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=60))
def test_as_many_colours_as_the_largest_degree_are_enough(edges) -> None:
    degrees = Counter(("left", left) for left, _ in edges)
    degrees.update(("right", right) for _, right in edges)
    most = max(degrees.values(), default=1)
    colours = colour_edges(edges, most)
    assert all(0 <= colour < most for colour in colours)
    at_left = [(left, colour) for (left, _), colour in zip(edges, colours, strict=True)]
    at_right = [(right, colour) for (_, right), colour in zip(edges, colours, strict=True)]
    assert len(set(at_left)) == len(set(at_right)) == len(edges)


def test_too_few_colours() -> None:
    with pytest.raises(ValueError, match=r"^node 3 has more than 2 edges$"):
        colour_edges([(3, 0), (3, 1), (3, 2)], 2)
