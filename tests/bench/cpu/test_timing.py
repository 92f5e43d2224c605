from trencadis_bench.cpu.timing import rates, ratio


def test_ways_take_turns() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    measured = rates(runs, repetitions=3, seconds=0.0)
    assert order == ["a", "b"] * 4
    assert {name: len(values) for name, values in measured.items()} == {"a": 3, "b": 3}


def test_ratio_is_the_median_of_the_turns() -> None:
    assert ratio({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 1.0]}, "a", "b") == 3.0
