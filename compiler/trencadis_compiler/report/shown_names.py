"""Names of layers as reports show them.

Converters join the names of nodes that they merge by semicolons; the last one tells most.
"""

import re

__all__ = ["last_name", "with_last_names"]

QUOTED = re.compile(r"'([^']*)'")


def last_name(name: str) -> str:
    """The last of joined names."""
    return name.rpartition(";")[2] or name


def with_last_names(sentence: str) -> str:
    """A sentence whose quoted names are the last of those joined."""
    return QUOTED.sub(lambda found: f"'{last_name(found[1])}'", sentence)
