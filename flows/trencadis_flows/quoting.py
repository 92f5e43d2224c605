"""Values in files that have no way to quote: they are refused unless they are plain."""

import shlex

from trencadis_flows.plan import PlanError

__all__ = ["cfg_value", "make_variable"]


def cfg_value(value: str, *, separators: str, subject: str) -> str:
    """Take a value for a `v++` configuration file, which knows no quotes.

    Parameters
    ----------
    value : str
        The value.
    separators : str
        Characters that would begin another part of the line.
    subject : str
        Named in errors.

    Raises
    ------
    PlanError
        If the value has a separator, white space, or what ends a line.
    """
    bad = [c for c in value if not c.isprintable() or c.isspace() or c in f"{separators}=#"]
    if bad or not value:
        raise PlanError(
            f"{subject} must be one word without {' '.join(f'{separators}=#')}, not {value!r}; "
            "change it in the board's description"
        )
    return value


def make_variable(name: str, value: object) -> str:
    """Write a variable for make's command line, in a shell: make reads `$$` as one dollar."""
    return f"{name}={shlex.quote(str(value).replace('$', '$$'))}"
