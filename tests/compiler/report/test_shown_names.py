"""Joined names are shown by their last part."""

import pytest

from trencadis_compiler.report.shown_names import last_name, with_last_names


@pytest.mark.parametrize(
    ("name", "shown"), [("a/Relu;b/Conv", "b/Conv"), ("conv", "conv"), ("odd;", "odd;"), ("", "")]
)
def test_the_last_name_is_shown(name: str, shown: str) -> None:
    assert last_name(name) == shown


def test_sentences_have_last_names() -> None:
    sentence = "Add 'a;b;c': Relu 'd' on a tensor; another 'e;f'"
    assert with_last_names(sentence) == "Add 'c': Relu 'd' on a tensor; another 'f'"
