from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from dogbreeds.model.metrics import evaluate, fit_temperature

# Photo by photo: right, taken for class 1, right, taken for class 1.
LOGITS = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 5.0, 1.0], [0.0, 4.0, 1.0]])
LABELS = torch.tensor([0, 0, 1, 2])


def drawn(number: int, seed: int, classes: int = 6) -> tuple[Tensor, Tensor]:
    """Logits whose softmax is the very distribution that the labels were drawn from."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(number, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits, labels


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits.double(), labels))


# Evaluation


def test_accuracy() -> None:
    evaluation = evaluate(LOGITS, LABELS, temperature=1.0)
    assert evaluation["accuracy"] == 0.5
    assert evaluation["per_class_accuracy"] == [0.5, 1.0, 0.0]


def test_macro_f1() -> None:
    # Class 0: precision 1, recall 1/2; class 1: precision 1/3, recall 1; class 2: nothing.
    expected = (2 / 3 + 1 / 2 + 0) / 3
    assert evaluate(LOGITS, LABELS, temperature=1.0)["macro_f1"] == pytest.approx(expected, rel=1e-6)


def test_top5_with_fewer_than_five_classes_is_always_right() -> None:
    assert evaluate(LOGITS, LABELS, temperature=1.0)["top5_accuracy"] == 1.0


def test_top5_with_more_classes() -> None:
    descending = torch.arange(7, 0, -1.0).expand(4, 7)
    scalars = evaluate(descending, torch.tensor([0, 4, 5, 6]), temperature=1.0)
    assert scalars["top5_accuracy"] == 0.5
    assert scalars["accuracy"] == 0.25


def test_loss() -> None:
    expected = sum(
        math.log(sum(math.exp(value) for value in row)) - row[label]
        for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ) / len(LABELS)
    for temperature in (1.0, 3.0):
        assert evaluate(LOGITS, LABELS, temperature)["loss"] == pytest.approx(expected, rel=1e-6)
    uniform = evaluate(torch.zeros(4, 3), LABELS, temperature=1.0)
    assert uniform["loss"] == pytest.approx(math.log(3))


def test_calibration_error() -> None:
    # Always 90% sure, right in three of four; at temperature 2 it would be 75% sure.
    logits = torch.tensor([[math.log(9.0), 0.0]]).repeat(4, 1)
    labels = torch.tensor([0, 0, 0, 1])
    scalars = evaluate(logits, labels, temperature=2.0)
    assert scalars["calibration_error_uncalibrated"] == pytest.approx(0.15, abs=1e-5)
    assert scalars["calibration_error"] == pytest.approx(0.0, abs=1e-5)


def test_calibration_error_weighs_the_bins() -> None:
    sure, unsure = [math.log(19.0), 0.0], [math.log(1.5), 0.0]
    logits = torch.tensor([sure, unsure, unsure, unsure])
    scalars = evaluate(logits, torch.tensor([1, 0, 0, 1]), temperature=1.0)
    # One photo 95% sure and wrong; three 60% sure and right in two of three.
    expected = 1 / 4 * 0.95 + 3 / 4 * abs(2 / 3 - 0.6)
    assert scalars["calibration_error"] == pytest.approx(expected, abs=1e-5)


def test_json_entries_carry_the_prefix() -> None:
    entries = evaluate(LOGITS, LABELS, temperature=1.0, prefix="test/")
    assert json.loads(json.dumps(entries)) == entries
    assert all(name.startswith("test/") for name in entries)
    assert entries["test/accuracy"] == 0.5
    assert entries["test/per_class_accuracy"] == [0.5, 1.0, 0.0]


def test_logits_of_half_precision() -> None:
    whole, half = evaluate(LOGITS, LABELS, 1.0), evaluate(LOGITS.bfloat16(), LABELS, 1.0)
    assert half.pop("per_class_accuracy") == whole.pop("per_class_accuracy")
    assert half == pytest.approx(whole, abs=0.01)


# Temperature


def test_calibrated_logits_need_no_temperature() -> None:
    assert fit_temperature(*drawn(20_000, seed=0)) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("known", [0.2, 0.5, 3.0, 10.0])
def test_a_known_temperature_is_recovered(known: float) -> None:
    logits, labels = drawn(2_000, seed=0)
    assert fit_temperature(known * logits, labels) == pytest.approx(known * fit_temperature(logits, labels), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_no_other_temperature_is_better(seed: int, scale: float) -> None:
    logits, labels = drawn(60, seed)
    logits = logits * scale
    best = cross_entropy(logits / fit_temperature(logits, labels), labels)
    assert best <= cross_entropy(logits, labels) + 1e-9
    assert best <= min(cross_entropy(logits / 1.05**power, labels) for power in range(-61, 62)) + 1e-6


def test_the_temperature_is_bounded_on_a_perfect_split() -> None:
    logits, _ = drawn(100, seed=0)
    assert fit_temperature(logits, logits.argmax(dim=1)) == pytest.approx(0.05)
    assert fit_temperature(1000 * logits, logits.argmax(dim=1)) >= 0.05


def test_the_temperature_is_bounded_where_every_answer_is_wrong() -> None:
    logits, _ = drawn(100, seed=0)
    assert fit_temperature(logits, logits.argmin(dim=1)) == pytest.approx(20)


def test_the_temperature_leaves_the_logits_alone() -> None:
    logits, labels = drawn(100, seed=0)
    before = logits.clone()
    assert math.isfinite(fit_temperature(torch.zeros(4, 3), LABELS))
    fit_temperature(logits, labels)
    assert torch.equal(logits, before)
