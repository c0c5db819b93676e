"""The engine: what it proposes, what it remembers, and that a kill at any point costs one trial at most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dogbreeds.hpo.leaderboard import FAILED, FINISHED, INTERRUPTED, NAN, PRUNED, Entry
from dogbreeds.hpo.optuna_engine import OptunaEngine
from dogbreeds.hpo.space import Space, Values, parse
from dogbreeds.run_directory import STORAGE
from dogbreeds.schema import SearchConfig

KNOWN = ("lr", "batch_size", "epochs")
SPACE = parse({}, ["lr=tag(log, interval(0.001, 0.1))", "batch_size=tag(ordered, choice(128, 256, 512))"], KNOWN)
DEFAULTS: Values = {"lr": 0.01, "batch_size": "256"}


def engine(
    directory: Path,
    strategy: str = "random",
    trials: int | None = 5,
    space: Space = SPACE,
    seed: int = 0,
    objective: str = "val/loss",
) -> OptunaEngine:
    min_epochs = 1 if strategy == "hyperband" else None
    settings = SearchConfig(strategy, trials, objective, min_epochs, {}, 1, False, [], False)
    return OptunaEngine(directory, space, settings, seed=seed, epochs=9)


def distance(values: Values) -> float:
    """Least, and zero, at lr=0.03 with a batch of 512."""
    batch = int(values["batch_size"]) if "batch_size" in values else 512
    return (math.log10(float(values["lr"])) + 1.5228787) ** 2 + (math.log2(batch) - 9) ** 2 / 10


def run(found: OptunaEngine, most: int = 1000, function: Callable[[Values], float] = distance) -> None:
    for done, (number, values) in enumerate(found.trials(DEFAULTS), start=1):
        found.tell(Entry(number, FINISHED, values, function(values), {"val/accuracy": 0.5}, 3, 0.1))
        if done == most:
            break


@pytest.mark.parametrize("strategy", ["random", "bayes", "hyperband"])
def test_an_interrupted_search_proposes_what_it_would_have(strategy: str, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.mkdir(), part.mkdir()
    run(engine(whole, strategy, 7))
    run(engine(part, strategy, 7), most=3)
    # Asked for the fourth, and killed.
    next(engine(part, strategy, 7).trials(DEFAULTS))
    run(engine(part, strategy, 7))
    expected, found = engine(whole, strategy, 7).entries(), engine(part, strategy, 7).entries()
    assert [entry.number for entry in found] == list(range(8))
    assert found[3].state == INTERRUPTED
    assert [entry.values for entry in found if entry.state == FINISHED] == [entry.values for entry in expected]
    assert len({entry.values["lr"] for entry in expected}) > 4


@pytest.mark.parametrize("strategy", ["grid", "random", "bayes"])
def test_a_trial_that_kills_its_process_twice_fails(strategy: str, tmp_path: Path) -> None:
    space = parse({}, ["lr=0.1,0.01,0.001"], KNOWN) if strategy == "grid" else SPACE
    trials = None if strategy == "grid" else 3

    def opened() -> OptunaEngine:
        return engine(tmp_path, strategy, trials, space)

    run(opened(), most=1)
    killed = [next(opened().trials(DEFAULTS))[1] for _ in range(2)]
    assert killed[0] == killed[1]
    run(opened())
    first, once, twice, last = opened().entries()
    assert [one.state for one in (first, once, twice, last)] == [FINISHED, INTERRUPTED, FAILED, FINISHED]
    assert once.values == twice.values == killed[0] != last.values
    assert "killed 2 times" in twice.message
    assert len(opened().done()) == 3


def test_a_person_may_stop_the_same_trial_again_and_again(tmp_path: Path) -> None:
    points = []
    for _ in range(3):
        found = engine(tmp_path)
        number, values = next(found.trials(DEFAULTS))
        found.tell(Entry(number, INTERRUPTED, values))
        points.append(values)
    assert points == [DEFAULTS] * 3
    assert {entry.state for entry in engine(tmp_path).entries()} == {INTERRUPTED}


def test_the_first_trial_is_the_default(tmp_path: Path) -> None:
    found = engine(tmp_path)
    run(found)
    assert found.entries()[0].values == DEFAULTS
    assert found.entries()[1].values != DEFAULTS


def test_defaults_outside_the_space_leave_the_rest_to_the_strategy(tmp_path: Path) -> None:
    number, values = next(engine(tmp_path).trials({"batch_size": "512"}))
    assert (number, values["batch_size"]) == (0, "512")
    assert 0.001 <= float(values["lr"]) <= 0.1


def test_the_seed_decides_the_points(tmp_path: Path) -> None:
    points = []
    for number, seed in enumerate((0, 0, 1)):
        directory = tmp_path / str(number)
        directory.mkdir()
        found = engine(directory, seed=seed)
        run(found)
        points.append([entry.values for entry in found.entries()])
    assert points[0] == points[1] != points[2]


def test_a_grid_tries_each_combination_once_in_order(tmp_path: Path) -> None:
    space = parse({}, ["lr=0.1,0.01", "epochs=range(5, 8)"], KNOWN)
    run(engine(tmp_path, "grid", None, space), most=2)
    next(engine(tmp_path, "grid", None, space).trials({}))
    found = engine(tmp_path, "grid", None, space)
    assert found.wanted() == 6
    run(found)
    finished = [entry.values for entry in found.entries() if entry.state == FINISHED]
    assert finished == list(space.combinations())
    assert len(found.entries()) == 7


@pytest.mark.ci
def test_the_model_finds_a_minimum_that_chance_misses(tmp_path: Path) -> None:
    least = {}
    for strategy in ("bayes", "random"):
        values = []
        for seed in range(3):
            directory = tmp_path / f"{strategy}{seed}"
            directory.mkdir()
            found = engine(directory, strategy, 12, seed=seed)
            run(found)
            values.append(min(distance(entry.values) for entry in found.entries()))
        least[strategy] = sum(values)
    assert least["bayes"] < least["random"] / 4


@pytest.mark.ci
def test_more_is_better_where_the_objective_says_so(tmp_path: Path) -> None:
    best = []
    for seed in range(3):
        directory = tmp_path / str(seed)
        directory.mkdir()
        found = engine(directory, "bayes", 12, seed=seed, objective="val/accuracy")
        run(found, function=lambda values: -distance(values))
        best.append(min(distance(entry.values) for entry in found.entries()))
    assert max(best) < 0.05


def test_states_and_their_circumstances_are_remembered(tmp_path: Path) -> None:
    entries = [
        Entry(0, FINISHED, DEFAULTS, 0.5, {"val/accuracy": 0.8}, 3, 1.5),
        Entry(1, FAILED, {}, message="no disk", seconds=0.1),
        Entry(2, NAN, {}, message="never finite", epochs=2),
        Entry(3, PRUNED, {}, 0.7, epochs=1),
        Entry(4, INTERRUPTED, {}),
    ]
    found = engine(tmp_path)
    for entry, (number, values) in zip(entries, found.trials(DEFAULTS), strict=False):
        assert number == entry.number
        found.tell(replace(entry, values=values))
    reopened = engine(tmp_path).entries()
    assert [replace(entry, values={}) for entry in reopened] == [replace(entry, values={}) for entry in entries]
    assert [entry.number for entry in engine(tmp_path).done()] == [0, 1, 2, 3]


def test_only_hyperband_stops_trials(tmp_path: Path) -> None:
    for strategy, stopped in (("random", False), ("hyperband", True)):
        directory = tmp_path / strategy
        directory.mkdir()
        found = engine(directory, strategy, 20)
        ends = set()
        for number, values in found.trials(DEFAULTS):
            reached = 0
            while reached < 9:
                reached += 1
                if found.stops(number, reached, 1.0 + number):
                    break
            ends.add(reached)
            found.tell(Entry(number, FINISHED if reached == 9 else PRUNED, values, 1.0 + number, epochs=reached))
        assert (min(ends) < 9) == stopped
        assert 9 in ends
    # A loss that is no number is the trial's own business.
    number, _ = next(engine(tmp_path / "hyperband", "hyperband", 30).trials(DEFAULTS))
    assert not engine(tmp_path / "hyperband", "hyperband", 30).stops(number, 1, math.nan)


def test_a_line_that_was_torn_by_a_power_failure_costs_no_finished_trial(tmp_path: Path) -> None:
    run(engine(tmp_path), most=2)
    before = engine(tmp_path).entries()
    with (tmp_path / STORAGE).open("a") as file:
        file.write('{"op_code":4,"worker_id":"x')
    found = engine(tmp_path)
    assert found.entries() == before
    run(found)
    assert len(engine(tmp_path).done()) == 5


@pytest.mark.ci
def test_a_region_without_numbers_is_left_alone(tmp_path: Path) -> None:
    for seed in range(2):
        directory = tmp_path / str(seed)
        directory.mkdir()
        found = engine(directory, "bayes", 16, seed=seed)
        for number, values in found.trials(DEFAULTS):
            finite = float(values["lr"]) < 0.03
            found.tell(Entry(number, FINISHED if finite else NAN, values, distance(values) if finite else None))
        states = [entry.state for entry in found.entries()]
        assert states.count(NAN) < 8
        assert len({entry.values["lr"] for entry in found.entries()}) > 10


def test_with_no_more_points_than_trials_each_is_tried_once(tmp_path: Path) -> None:
    space = parse({}, ["lr=0.1,0.01,0.001"], KNOWN)
    found = engine(tmp_path, "bayes", 9, space)
    run(found)
    assert [entry.values for entry in found.entries()] == list(space.combinations())
