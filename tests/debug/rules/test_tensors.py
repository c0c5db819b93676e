"""Rules over tensors, each on a small record on which it fires and on one on which it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dogbreeds.debug.record import TRAIN, Facts, Record, Row
from dogbreeds.debug.recorder import describe
from dogbreeds.debug.rules.tensors import (
    AllZero,
    DeadRelu,
    ExplodingTensor,
    PoorWeightInitialization,
    UnchangedTensor,
    VanishingGradient,
    WeightUpdateRatio,
)
from dogbreeds.debug.rules.verdict import ISSUES, NO_ISSUES, NOT_APPLICABLE, Rule

SPREAD = torch.linspace(-1, 1, 101)


def record(tensors: Mapping[str, Sequence[Tensor] | Tensor], losses: Sequence[float] | None = None) -> Record:
    """Ten recorded steps; one tensor stands for ten of the same."""
    rows = []
    for step in range(10):
        at = {name: given if isinstance(given, Tensor) else given[step] for name, given in tensors.items()}
        loss = losses[step] if losses else 1.0 - step / 20
        statistics = {name: describe(tensor) for name, tensor in at.items()}
        rows.append(Row(TRAIN, step, 1, float(step), {"loss": loss}, statistics))
    return Record(rows)


HEALTHY = {
    "weight/a.weight": SPREAD,
    "weight/b.weight": 2 * SPREAD,
    "gradient/a.weight": SPREAD / 10,
    "update/a.weight": SPREAD / 100,
    "activation/relu": SPREAD.clamp_min(0),
}
RULES: list[Rule] = [
    PoorWeightInitialization(),
    VanishingGradient(),
    ExplodingTensor(),
    UnchangedTensor(),
    WeightUpdateRatio(),
    AllZero(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_healthy_run_trips_none(rule: Rule) -> None:
    assert rule.judge(record(HEALTHY)).status == NO_ISSUES
    assert rule.judge(Record()).status == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("rule", "changed", "said"),
    [
        (
            PoorWeightInitialization(),
            {"weight/b.weight": 4 * SPREAD},
            "the variance of b.weight is 16 times that of a.weight",
        ),
        (
            PoorWeightInitialization(),
            {"gradient/a.weight": torch.full((9,), 0.5)},
            "all values of the gradient of a.weight are 0.5",
        ),
        (VanishingGradient(), {"gradient/a.weight": SPREAD * 1e-8}, "the mean size of gradient a.weight is 5.05e-09"),
        (
            ExplodingTensor(),
            {"weight/a.weight": torch.tensor([1.0, math.inf, math.nan])},
            "weight a.weight has 2 NaN or infinite values",
        ),
        (ExplodingTensor(), {"activation/relu": torch.tensor([math.nan])}, "activation relu has 1 NaN"),
        (UnchangedTensor(), {"update/a.weight": 0 * SPREAD}, "a.weight has not changed for 3 recorded steps"),
        (WeightUpdateRatio(), {"update/a.weight": 20 * SPREAD}, "updates of a.weight are 20 times its values"),
        (WeightUpdateRatio(), {"update/a.weight": SPREAD * 1e-9}, "1e-09 times its values"),
        (AllZero(), {"gradient/a.weight": 0 * SPREAD}, "100% of gradient a.weight is zero"),
        (AllZero(threshold=40.0), {}, "50% of activation relu is zero"),
    ],
)
def test_what_each_rule_is_there_for(rule: Rule, changed: dict[str, Tensor], said: str) -> None:
    found = rule.judge(record({**HEALTHY, **changed}))
    assert found.status == ISSUES
    assert said in found.message
    assert found.steps and found.advice


def test_only_the_first_steps_are_an_initialisation() -> None:
    late = [SPREAD] * 5 + [9 * SPREAD] * 5
    assert PoorWeightInitialization().judge(record({**HEALTHY, "weight/b.weight": late})).steps == (5, 6, 7, 8, 9)
    early = PoorWeightInitialization(steps=5)
    assert early.judge(record({**HEALTHY, "weight/b.weight": late})).status == NO_ISSUES


def test_a_loss_that_stays_where_it_was_speaks_of_a_poor_start() -> None:
    found = PoorWeightInitialization().judge(record(HEALTHY, [2.3] * 10))
    assert (found.status, found.steps[0]) == (ISSUES, 6)
    assert "stays at 2.3" in found.message
    assert PoorWeightInitialization(patience=9).judge(record(HEALTHY, [2.3] * 10)).status == NO_ISSUES


def test_a_head_that_starts_at_zero_is_no_poor_start() -> None:
    zero = [0 * SPREAD] + [SPREAD / 100] * 9
    biases = {"weight/head.weight": zero, "weight/head.bias": zero, "gradient/head.weight": SPREAD}
    for rule in (PoorWeightInitialization(), AllZero(), WeightUpdateRatio()):
        assert rule.judge(record({**biases, "update/head.weight": SPREAD / 100})).status == NO_ISSUES


def test_the_first_gradient_of_a_bias_may_be_zero_and_no_other() -> None:
    """Of a batch with equally many photos of each class, it is exactly zero."""
    first = {**HEALTHY, "gradient/head.bias": [0 * SPREAD] + [SPREAD] * 9}
    assert AllZero().judge(record(first)).status == NO_ISSUES
    second = {**HEALTHY, "gradient/head.bias": [SPREAD, 0 * SPREAD] + [SPREAD] * 8}
    assert AllZero().judge(record(second)).steps == (1,)
    weights = {**HEALTHY, "gradient/head.weight": [0 * SPREAD] + [SPREAD] * 9}
    assert AllZero().judge(record(weights)).steps == (0,)


def test_infinities_may_be_left_to_others() -> None:
    changed = {**HEALTHY, "gradient/a.weight": torch.tensor([math.inf, 1.0])}
    assert ExplodingTensor().judge(record(changed)).status == ISSUES
    assert ExplodingTensor(only_nan=True).judge(record(changed)).status == NO_ISSUES


def test_unchanged_means_several_times_in_a_row() -> None:
    now_and_then = [SPREAD / 100 if step % 3 == 0 else 0 * SPREAD for step in range(10)]
    changed = record({**HEALTHY, "update/a.weight": now_and_then})
    assert UnchangedTensor().judge(changed).status == NO_ISSUES
    assert UnchangedTensor(num_steps=2).judge(changed).steps == (2, 5, 8)


def test_statistics_of_nothing_finite_trip_no_other_rule() -> None:
    broken = record({**HEALTHY, "gradient/a.weight": torch.tensor([math.nan])})
    rows = [replace(row, scalars={"loss": math.nan}) for row in broken.rows]
    assert AllZero().judge(Record(rows)).status == NO_ISSUES


def test_a_first_loss_far_above_guessing_is_a_poor_start() -> None:
    rows = [Row(TRAIN, 0, 1, 0.0, {"loss": 23.1}, {"weight/a.weight": describe(SPREAD)})]
    ten = Record(rows, Facts({str(number): 1 for number in range(10)}))
    found = PoorWeightInitialization(first_loss=3.0).judge(ten)
    assert found.message == "the first loss is 23.1; guessing has 2.30"
    assert PoorWeightInitialization(first_loss=11.0).judge(ten).status == NO_ISSUES
    assert PoorWeightInitialization().judge(ten).status == NO_ISSUES


def test_a_gradient_may_vanish_now_and_then() -> None:
    once = {**HEALTHY, "gradient/a.weight": [0 * SPREAD] + [SPREAD] * 9}
    assert VanishingGradient().judge(record(once)).steps == (0,)
    assert VanishingGradient(patience=1).judge(record(once)).status == NO_ISSUES
    gone = {**HEALTHY, "gradient/a.weight": [SPREAD] * 5 + [0 * SPREAD] * 5}
    assert VanishingGradient(patience=3).judge(record(gone)).steps == (8, 9)


def test_relus_that_are_hardly_ever_active_are_dead() -> None:
    active, dead = torch.full((40,), 0.5), torch.zeros(40)
    few = {"activity/relu": torch.cat([active, dead[:30]])}
    most = {"activity/relu": torch.cat([active[:10], dead])}
    assert DeadRelu().judge(record(few)).status == NO_ISSUES
    found = DeadRelu().judge(record(most))
    assert found.status == ISSUES
    assert "of the units of relu are dead" in found.message
    # Active for 2% of the photos is dead where 3% are asked for.
    rare = record({"activity/relu": torch.full((40,), 0.02)})
    assert DeadRelu().judge(rare).status == NO_ISSUES
    assert DeadRelu(threshold_inactivity=3.0).judge(rare).status == ISSUES
    assert DeadRelu().judge(record(HEALTHY)).status == NOT_APPLICABLE
