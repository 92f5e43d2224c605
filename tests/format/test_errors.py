"""Messages of errors."""

from trencadis_format.errors import ContainerError, UserError


def test_names_with_line_breaks_leave_one_line() -> None:
    for kind in (UserError, ContainerError):
        assert str(kind("attribute 'a\nb\u2028c' is not known")) == "attribute 'a b c' is not known"
