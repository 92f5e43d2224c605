import pytest

from trencadis_train.recipe import DynamicMasks, Training
from trencadis_train.training import schedule


def test_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    training = Training(learning_rate=0.5, warm_up=0.25)
    rates = [schedule.learning_rate(training, i / 100) for i in range(101)]
    assert rates[0] == 0.5 * 0.04
    assert rates[25] == 0.5 == max(rates)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert 0 < rates[100] < 1e-4


def test_without_warm_up_learning_begins_at_the_peak() -> None:
    assert schedule.learning_rate(Training(learning_rate=0.5, warm_up=0), 0) == 0.5


def test_winners_fall_from_all_to_k() -> None:
    training = Training(winners_warm_up=0.5)
    found = [schedule.winners(training, 4, 64, i / 20) for i in range(21)]
    assert found[0] == 64
    assert found[5] == 16
    assert found == sorted(found, reverse=True)
    assert found[10:] == [4] * 11


def test_winners_without_warm_up_are_k_at_once() -> None:
    assert schedule.winners(Training(), 4, 64, 0) == 4


def test_boost_falls_to_zero() -> None:
    training = Training(boost=2.0, boost_until=0.5)
    assert [schedule.boost(training, i / 4) for i in range(5)] == [2.0, 1.0, 0.0, 0.0, 0.0]


def test_boost_that_ends_at_once_is_none() -> None:
    assert schedule.boost(Training(boost=2.0, boost_until=0), 0) == 0


def test_drop_fraction_falls_to_zero() -> None:
    dynamic = DynamicMasks(fraction=0.4, until=0.5)
    found = [schedule.drop_fraction(dynamic, i / 4) for i in range(5)]
    assert found == [0.4, pytest.approx(0.2), 0.0, 0.0, 0.0]
