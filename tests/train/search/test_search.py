import csv
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from trencadis_train.errors import TrainingError
from trencadis_train.search.space import Choice, Range

pytest.importorskip("optuna")

import optuna

from trencadis_train.search.search import (
    Search,
    SearchPlan,
    fronts,
    open_storage,
    quiet,
    write_found,
)
from trencadis_train.search.search_plot import draw_found

PLAN = SearchPlan(
    name="pretend",
    recipe="abc",
    space=(Range("rate", 0.01, 1.0, log=True), Choice("ways", (1, 2, 4, 8))),
    least_accuracy=0.8,
    most_density=0.6,
    epochs=(1, 3, 9),
    promoted=3,
)


class Pretend:
    """Accuracy and density by formula; remembers what was trained."""

    def __init__(self):
        self.trained = []
        self.stop_after = -1

    def density(self, values):
        return 1 / values["ways"]

    def accuracy(self, values, epochs, *, last):
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt
        self.trained.append((dict(values), epochs, last))
        if values["rate"] > 0.9:
            raise TrainingError("the loss became nan")
        return 1 - 0.2 / epochs - 0.02 * values["ways"] - 0.1 * abs(np.log10(values["rate"]) + 1)


@pytest.fixture(autouse=True)
def _quiet():
    quiet()


@pytest.fixture
def storage(tmp_path):
    return open_storage(str(tmp_path / "trials.log"))


def search(storage, plan=PLAN, seed=1, **keywords):
    trains = Pretend()
    return Search(plan, storage, trains, seed=seed, **keywords), trains


def test_the_best_of_every_stage_go_on(storage):
    here, trains = search(storage)
    found = here.run(24)
    stages = [[trial for trial in found if trial.stage == stage] for stage in range(3)]
    assert len(stages[0]) == 24
    trained = [sum(t.state == "complete" for t in trials) for trials in stages]
    assert trained[1] >= trained[0] // 3
    assert trained[2] >= trained[1] // 3 >= 1
    assert trained[2] < trained[1] < trained[0]
    for earlier, later in zip(stages, stages[1:], strict=False):
        origins = [trial.origin for trial in later]
        assert len(set(origins)) == len(origins)
        for trial in later:
            assert trial.values == earlier[trial.origin].values
    # Short ones first, and what is final is said to be.
    assert trains.trained[0][1:] == (1, False)
    assert {(epochs, last) for _, epochs, last in trains.trained} == {
        (1, False),
        (3, False),
        (9, True),
    }


def test_promoted_trials_are_on_the_first_fronts(storage):
    here, _ = search(storage, replace(PLAN, epochs=(1, 9)))
    found = here.run(30)
    short = [trial for trial in found if trial.stage == 0 and trial.state == "complete"]
    ranks = fronts(np.array([[trial.accuracy, trial.density] for trial in short]))
    by_number = {trial.number: rank for trial, rank in zip(short, ranks, strict=True)}
    promoted = {trial.origin for trial in found if trial.stage == 1}
    # At the end, all that belong to the best third have gone on.
    best = sorted(by_number, key=lambda n: (by_number[n], -(found[n].accuracy or 0)))
    assert set(best[: len(short) // 3]) <= promoted


def test_thresholds(storage):
    here, trains = search(storage)
    found = here.run(24)
    assert all(values["ways"] > 1 for values, _, _ in trains.trained)
    dense = [trial for trial in found if trial.state == "dense"]
    assert dense
    assert all(trial.density == 1 and trial.accuracy is None for trial in dense)
    for trial in found:
        expected = (
            trial.stage == 2
            and trial.state == "complete"
            and (trial.accuracy or 0) >= 0.8
            and (trial.density or 1) <= 0.6
        )
        assert trial.meets == expected
    assert any(trial.meets for trial in found)
    last = [t for t in found if t.stage == 2 and t.state == "complete"]
    ranks = fronts(np.array([[t.accuracy, t.density] for t in last]))
    assert [t.front for t in last] == [rank == 0 for rank in ranks]
    assert not any(t.front for t in found if t.stage < 2)


def test_failures_are_kept_with_their_reason(storage):
    plan = replace(PLAN, space=(Range("rate", 0.85, 1.0), Choice("ways", (2, 4))))
    here, _ = search(storage, plan)
    found = here.run(12)
    failed = [trial for trial in found if trial.state == "failed"]
    assert 0 < len(failed) < 12
    assert all(trial.error == "the loss became nan" for trial in failed)
    assert all(trial.accuracy is None for trial in failed)


def test_a_search_in_which_all_fails_gives_up(storage):
    plan = replace(PLAN, space=(Range("rate", 0.95, 1.0), Choice("ways", (2, 4))))
    here, trains = search(storage, plan)
    message = "the first 12 trials failed, the last since the loss became nan"
    with pytest.raises(TrainingError, match=message):
        here.run(50)
    assert len(trains.trained) == 12


def test_the_same_seed_tries_the_same(tmp_path):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        here, trains = search(open_storage(str(tmp_path / name)), seed=seed)
        here.run(12)
        runs.append(trains.trained)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_stopped_search_goes_on(storage):
    here, trains = search(storage)
    trains.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        here.run(24)
    stopped = [trial for trial in here.found() if trial.state == "failed"]
    assert len(stopped) == 1
    assert stopped[0].error == ""
    again, _ = search(storage)
    found = again.run(24)
    going = [t for t in found if t.stage == 0 and (t.state != "failed" or t.error)]
    assert len(going) == 24
    # The second process has the same seed, and tries others.
    assert len({tuple(sorted(trial.values.items())) for trial in going}) == 24
    finished = [trial for trial in found if trial.stage == 2 and trial.state == "complete"]
    assert finished
    # What was stopped in a later stage has been done again.
    if stopped[0].stage:
        same = [t for t in found if (t.stage, t.origin) == (stopped[0].stage, stopped[0].origin)]
        assert [t.state for t in same] == ["failed", "complete"]


def test_what_a_dead_process_left_is_done_again(storage):
    here, _ = search(storage, replace(PLAN, epochs=(1, 9)))
    here.run(6)
    dead = optuna.load_study(study_name="pretend/1", storage=storage)
    first = optuna.load_study(study_name="pretend/0", storage=storage)
    best = here._claim(1)
    assert best is None  # all that may go on have gone
    dead.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=first.trials[0].params,
            distributions=first.trials[0].distributions,
            user_attrs={"origin": 0, "token": "dead"},
        )
    )
    again, _ = search(storage, replace(PLAN, epochs=(1, 9)), seed=2)
    assert [t.state for t in again.found() if t.stage == 1][-1] == "running"
    assert again.reset_running() == 1
    assert [t.state for t in again.found() if t.stage == 1][-1] == "failed"
    assert again.reset_running() == 0


def test_two_processes_never_train_the_same_twice(storage):
    """Both decide at the same time: the claim that was first in the storage holds."""
    plan = replace(PLAN, epochs=(1, 9))
    first, _ = search(storage, plan)
    study = optuna.load_study(study_name="pretend/0", storage=storage)
    for rate in (0.1, 0.2, 0.3):
        trial = study.ask(first._distributions)
        study.tell(trial, [rate, 0.5])
    second, _ = search(storage, plan, seed=2)
    claims = []
    going = second._going

    def meanwhile(stage):
        """Between the second's look and its claim, the first makes its own."""
        result = going(stage)
        if not claims:
            claims.append(first._claim(1))
        return result

    second._going = meanwhile
    assert second._claim(1) is None
    assert claims[0] is not None
    trials = optuna.load_study(study_name="pretend/1", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["RUNNING", "FAIL"]
    assert first._claim(1) is None


@pytest.mark.parametrize("where", ["trials.log", "sqlite:///{}/trials.db"])
def test_processes_share_a_storage(tmp_path, where):
    place = where.format(tmp_path) if "://" in where else str(tmp_path / where)
    program = textwrap.dedent(
        f"""
        import sys, time
        from trencadis_train.search.search import Search, SearchPlan, open_storage, quiet
        from trencadis_train.search.space import Choice, Range
        class Pretend:
            def density(self, values):
                return 1 / values["ways"]
            def accuracy(self, values, epochs, *, last):
                time.sleep(0.02)
                return values["rate"] / 2 + epochs / 20
        quiet()
        plan = SearchPlan(name="shared", recipe="abc", least_accuracy=0.5, most_density=1.0,
            space=(Range("rate", 0.1, 1.0), Choice("ways", (1, 2, 4))), epochs=(1, 9), promoted=3)
        Search(plan, open_storage({place!r}), Pretend(), seed=int(sys.argv[1])).run(9)
        """
    )
    open_storage(place)
    workers = [
        subprocess.Popen([sys.executable, "-c", program, str(seed)], stderr=subprocess.PIPE)
        for seed in (1, 2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors.decode()
    studies = [
        optuna.load_study(study_name=f"shared/{stage}", storage=open_storage(place))
        for stage in (0, 1)
    ]
    states = [[trial.state.name for trial in study.trials] for study in studies]
    # A process may begin a trial while the other begins the last one.
    assert 9 <= states[0].count("COMPLETE") <= 10
    origins = [t.user_attrs["origin"] for t in studies[1].trials if t.state.name == "COMPLETE"]
    assert len(set(origins)) == len(origins) >= 3


def test_another_search_of_the_same_name_is_refused(storage):
    search(storage)
    search(storage)
    for changed in ({"recipe": "other"}, {"most_density": 0.5}, {"promoted": 4}):
        with pytest.raises(TrainingError, match="the storage holds another search 'pretend'"):
            search(storage, replace(PLAN, **changed))
    search(storage, replace(PLAN, name="another", most_density=0.5))


def test_trials_are_told_as_they_end(storage):
    told = []
    here, trains = search(storage, on_trial=told.append)
    here.run(9)
    assert sum(trial.state != "dense" for trial in told) == len(trains.trained)
    assert told[0].stage == 0


def test_fronts_by_hand():
    scores = np.array([[0.9, 0.2], [0.8, 0.2], [0.95, 0.5], [0.7, 0.1], [0.8, 0.3], [0.9, 0.2]])
    assert fronts(scores).tolist() == [0, 1, 0, 0, 2, 0]
    assert fronts(np.zeros((0, 2))).tolist() == []


def test_the_table(storage, tmp_path):
    here, _ = search(storage)
    found = here.run(12)
    write_found(tmp_path / "trials.csv", found)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    for row, trial in zip(rows, found, strict=True):
        assert float(row["rate"]) == trial.values["rate"]
        assert int(row["ways"]) == trial.values["ways"]
        assert row["state"] == trial.state
        assert (row["accuracy"] == "") == (trial.accuracy is None)


def test_the_picture(storage, tmp_path):
    here, _ = search(storage)
    for name, found in (("empty", here.found()), ("full", here.run(12))):
        draw_found(tmp_path / f"{name}.png", found, PLAN)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": ()}, r"fields to vary must be some, all different, not \[\]"),
        ({"space": PLAN.space * 2}, "fields to vary must be some, all different"),
        ({"epochs": ()}, r"epochs of the stages must rise from at least 1, not \[\]"),
        ({"epochs": (3, 3)}, "epochs of the stages must rise"),
        ({"epochs": (0, 3)}, "epochs of the stages must rise"),
        ({"promoted": 1}, "promoted must be at least 2"),
        ({"least_accuracy": 96.5}, "thresholds must be parts of 1, not accuracy 96.5"),
        ({"most_density": 0.0}, "thresholds must be parts of 1"),
    ],
)
def test_impossible_plans_are_refused(changes, message):
    with pytest.raises(TrainingError, match=message):
        replace(PLAN, **changes)


@pytest.mark.parametrize("where", ["nosuchdb://x", "sqlite:////none/of/it/trials.db"])
def test_storages_that_cannot_be_opened_are_refused(where):
    with pytest.raises(TrainingError, match="not a storage of trials"):
        open_storage(where)


@pytest.mark.parametrize("text", ["no journal\n", "3\n", "{}\nno\njournal\n", "\xff"])
def test_a_file_that_is_no_journal_is_refused(tmp_path, text):
    path = tmp_path / "trials.log"
    path.write_text(text, "latin1")
    with pytest.raises(TrainingError, match=r"trials\.log: not a storage of trials"):
        open_storage(str(path))
    assert path.read_text("latin1") == text
