"""Comparisons of two models, against published numbers and a simulation."""

from __future__ import annotations

import math
import random

import pytest

from dogbreeds.model.paired import Paired, interval, unpaired_interval


def test_the_exact_test_is_a_coin_for_each_photo_that_tells_them_apart() -> None:
    assert Paired(0, 0, 100).p_value == Paired(7, 7, 100).p_value == 1
    assert Paired(6, 0, 100).p_value == Paired(0, 6, 7).p_value == pytest.approx(2 / 64)
    # 2 of 11 tosses: 2 (1 + 11 + 55) / 2048.
    assert Paired(9, 2, 350).p_value == pytest.approx(134 / 2048)
    assert not Paired(9, 2, 350).clear and Paired(10, 2, 350).clear
    # Also where the two powers are no floats.
    assert Paired(1300, 1200, 10_000).p_value == pytest.approx(0.0478, abs=5e-4)


def test_pairs_are_counted_photo_by_photo() -> None:
    pair = Paired.of([True, True, False, False, True], [True, False, True, False, False])
    assert pair == Paired(2, 1, 5)
    assert pair.difference == pytest.approx(0.2)
    with pytest.raises(ValueError):
        Paired.of([True], [])


def test_the_interval_of_a_paired_difference_and_the_test_never_disagree() -> None:
    low, high = Paired(40, 20, 500).interval
    # (b - c) / (N + 2) -+ 1.96 sqrt(b + c + 1 - (b - c)^2 / (N + 2)) / (N + 2).
    reach = 1.959964 * math.sqrt(61 - 400 / 502) / 502
    assert (low, high) == pytest.approx((20 / 502 - reach, 20 / 502 + reach))
    for first in range(30):
        for second in range(30):
            pair = Paired(first, second, 100)
            low, high = pair.interval
            assert low <= pair.difference <= high
            assert (low <= 0 <= high) != pair.clear
    low, high = Paired(0, 0, 50).interval
    assert low == -high < 0


def test_the_interval_covers_the_true_difference() -> None:
    chance = random.Random(0)
    covered, tries, photos = 0, 400, 250
    for _ in range(tries):
        drawn = [chance.random() for _ in range(photos)]
        low, high = Paired(sum(one < 0.10 for one in drawn), sum(0.10 <= one < 0.15 for one in drawn), photos).interval
        covered += low <= 0.05 <= high
    assert covered / tries > 0.93


def test_so_many_photos_would_settle_it() -> None:
    # Connor (1987): 0.2 of the photos tell two models apart, whose accuracies differ by 0.1.
    assert Paired(15, 5, 100).photos_to_settle == 155
    assert Paired(5, 15, 100).photos_to_settle == 155
    assert Paired(5, 5, 100).photos_to_settle is None


def test_intervals_of_shares() -> None:
    assert interval(0.5, 0) == (0, 1)
    # Wilson's intervals of 81 of 263 and of 8 of 10, and Newcombe's (1998) of 56/70 - 48/80.
    assert interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert interval(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert interval(1.0, 10)[1] == 1
    assert unpaired_interval((56 / 70, 70), (48 / 80, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
