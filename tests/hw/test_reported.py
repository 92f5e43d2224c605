import pytest

from trencadis_hw.reported import reported


class BadLuck(RuntimeError):
    pass


class Mistake(BadLuck):
    pass


@pytest.mark.parametrize(("error", "status"), [(Mistake("typo"), 2), (BadLuck("fire"), 1)])
def test_an_error_is_one_line_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(SystemExit) as end,
        reported("program", bad_input=(Mistake,), failed=(BadLuck,)),
    ):
        raise error
    assert end.value.code == status
    assert capsys.readouterr().err == f"program: {error}\n"


def test_other_errors_go_on() -> None:
    with pytest.raises(BadLuck), reported("program", bad_input=(Mistake,)):
        raise BadLuck("fire")
