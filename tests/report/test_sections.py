"""What the sections compute: pure functions over what was recorded."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dogbreeds.debug.measurements import Measurements, Phase, Sample, StepTimes
from dogbreeds.formats import counted, duration, short
from dogbreeds.report.build import build_report
from dogbreeds.report.chart import chart, columns, figure, line, log_axis, thinned
from dogbreeds.report.opening import Opening, opening
from dogbreeds.report.run import Prediction, read_run
from dogbreeds.report.sections.calibration import bins, reliability
from dogbreeds.report.sections.confusion import breeds, by_similarity, matrix_figure, mistakes
from dogbreeds.report.sections.learning import best_epoch, per_epoch
from dogbreeds.report.sections.numbers import numbers
from dogbreeds.report.sections.photos import least_sure, most_wrong
from dogbreeds.report.sections.rules import steps, worst
from dogbreeds.report.sections.timing import Timeline, durations, outermost, outliers, phase_chart
from tests.report.synthetic import Drawn, rule


def sample(at: float, cpu: float) -> Sample:
    return Sample(at, cpu, (cpu,), 0.0, 40.0, 1, 0.0, 0.0, 0.0, 0.0, cpu, 1)


def answer(probability: float, *, right: bool, second: float = 0.0) -> Prediction:
    said = "a" if right else "b"
    return Prediction("test", "one.jpg", "a", said, probability, 0.0, "c", second)


def test_figures_have_no_nan_and_cannot_end_their_script() -> None:
    drawn = figure([line([1, 2], [math.nan, 1.23456789], "</script>", "var(--accent)")], "x", "y")
    text = str(chart("one", "One", "It is one.", drawn).json)
    assert "<" not in text
    (read,) = json.loads(text)
    assert read["data"][0]["y"] == [None, 1.2346]
    assert read["layout"]["xaxis"]["title"]["text"] == "x"


def test_long_series_keep_their_ends() -> None:
    assert thinned([1, 2, 3], 5) == [1, 2, 3]
    kept = thinned(list(range(10_000)), 600)
    assert (len(kept), kept[0], kept[-1]) == (600, 0, 9999)
    assert columns([(1, 2), (3, 4)]) == ([1, 3], [2, 4])


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 5], {"nticks": 6}), ([1e-2, 1], {"dtick": "D2"}), ([1e-16, 1], {"dtick": 2})]
)
def test_logarithmic_axes_have_a_few_labels(values: list[float], expected: dict[str, object]) -> None:
    axis = log_axis([*values, 0.0, math.inf])
    assert axis["type"] == "log"
    assert expected.items() <= axis.items()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2e-6, "2 µs"), (0.0123, "12.3 ms"), (5.25, "5.25 s"), (75, "1 min 15 s"), (3720, "1 h 02 min")],
)
def test_durations_have_the_unit_that_suits_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0.123456, 12345.6, math.nan)] == ["0.1235", "12,346", "nan"]
    assert [counted(1, "class", "classes"), counted(2, "class", "classes")] == ["1 class", "2 classes"]


def test_the_best_epoch_is_a_finite_one() -> None:
    rows = [{"val/loss": math.nan}, {"val/loss": 0.5}, {"val/loss": 0.7}]
    assert best_epoch(rows) == 1


def test_the_reference_is_a_line_over_all_epochs() -> None:
    rows = [{"epoch": epoch, "train/loss": 1.0, "val/loss": 1.0} for epoch in (1.0, 2.0, 3.0)]
    (drawn,) = per_epoch(rows, "loss", 0.4).views.values()
    *_, reference = drawn["data"]
    assert (reference["x"], reference["y"]) == ([1.0, 3.0], [0.4, 0.4])
    (drawn,) = per_epoch(rows, "loss", None).views.values()
    assert len(drawn["data"]) == 2


def test_breeds_that_are_taken_for_each_other_stand_together() -> None:
    matrix = np.diag([9] * 8)
    for one, other in ((0, 5), (5, 2), (1, 7), (3, 6)):
        matrix[one, other] = 4
    order = by_similarity(matrix)
    assert sorted(order) == list(range(8))
    neighbours = {frozenset(pair) for pair in pairwise(order)}
    assert {frozenset(pair) for pair in ((0, 5), (5, 2), (1, 7), (3, 6))} <= neighbours
    assert by_similarity(np.array([[3]])) == [0]


def test_mistakes_count_down_and_right_answers_up() -> None:
    drawn = matrix_figure(np.array([[3, 1], [0, 2]]), ["a", "b"], [1, 0])
    (heat,) = drawn["data"]
    assert heat["x"] == ["b", "a"]
    assert heat["cells"] == [(0, 0, 2, 1.0), (1, 0, 1, -0.25), (1, 1, 3, 0.75)]
    assert heat["zmin"] == -0.25


def test_the_hardest_breed_and_the_most_frequent_confusion_come_first() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 2], [0, 0, 4]])
    assert [row[0] for row in breeds([0.75, 0.0, 1.0], matrix, "abc")] == ["b", "a", "c"]
    assert mistakes(matrix, "abc") == [("b", "c", 2, 1.0), ("a", "b", 1, 0.25)]


def test_answers_fall_into_bins_of_their_probability() -> None:
    found = bins([answer(0.2, right=False), answer(0.95, right=True), answer(1.0, right=False)])
    assert [(one.photos, round(one.probability, 3), one.accuracy) for one in found] == [(1, 0.2, 0.0), (2, 0.975, 0.5)]
    assert (found[0].low, found[0].high) == (2 / 15, 3 / 15)


@pytest.mark.parametrize(("photos", "word"), [(20, "no clear difference"), (200, "too sure")])
def test_only_a_clear_difference_is_called_too_sure(photos: int, word: str) -> None:
    answers = [answer(0.8, right=number % 10 < 7) for number in range(photos)]
    message = f"Of the {photos} photos predicted with 80%, 70% are classified correctly: {word}."
    assert reliability(answers).message.startswith(message)


def test_photos_worth_a_look() -> None:
    sure, unsure = answer(0.9, right=False), answer(0.5, right=True, second=0.45)
    fine, doubtful = answer(0.99, right=True), answer(0.6, right=False, second=0.3)
    everything = [doubtful, fine, unsure, sure]
    assert most_wrong(everything) == [sure, doubtful]
    assert least_sure(everything)[:2] == [unsure, doubtful]


def test_pauses_between_a_stop_and_a_continuation_are_cut_out() -> None:
    phases = [Phase("start-up", 0, 2), Phase("training", 2, 10), Phase("start-up", 90_000, 90_003)]
    timeline = Timeline(Measurements([sample(12.0, 1.0), sample(90_005.0, 1.0)], [], phases))
    assert timeline.seconds == 17
    assert timeline.of([0, 12, 90_000, 90_005]) == [0, 12, 12, 17]
    assert timeline.span(phases[2]) == (12, 15)
    assert Timeline(Measurements()).of([1.0]) == []


def test_a_slow_step_is_told_with_what_was_slow() -> None:
    ordinary = [StepTimes(n, 1, float(n), forward=0.010) for n in range(50)]
    slow = StepTimes(50, 2, 50.0, data=0.5, forward=0.010)
    ((step, part, more),) = outliers([*ordinary, slow])
    assert (step, part, round(more, 3)) == (slow, "waiting for data", 0.5)
    (whole, _), *parts = durations([*ordinary, slow])
    assert whole.maximum == pytest.approx(0.51)
    assert [row.name for row, _ in parts] == ["waiting for data", "forward"]
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert outliers([]) == durations([]) == []


def test_a_step_is_an_outlier_where_the_rule_says_so(tmp_path: Path) -> None:
    """Four standard deviations above the mean, of 17 steps, are none."""
    steps_ = [StepTimes(n, 1, float(n), forward=0.010) for n in range(16)]
    assert outliers([*steps_, StepTimes(16, 1, 16.0, forward=0.5)]) == []
    assert "more than 5 standard deviations" in build_report(Drawn(tmp_path).everything()).read_text()


def test_what_makes_other_findings_follow_is_worst() -> None:
    assert worst([{"name": "Confusion"}, {"name": "ExplodingTensor"}])["name"] == "ExplodingTensor"
    assert worst([{"name": "Unheard"}, {"name": "Confusion"}])["name"] == "Confusion"
    assert steps([3, 3, 4]) == "3, 4"
    assert steps(range(20)).endswith("11 and 8 more")


def opened(drawn: Drawn, **metrics: object) -> Opening:
    drawn.config()
    drawn.metrics(**metrics)
    return opening(read_run(drawn.directory), live=False, now=0.0)


@pytest.mark.parametrize(
    ("metrics", "verdict", "advice", "command"),
    [
        ({}, "not clearly different from the exact linear reference", "Classify", "predict.py package="),
        (
            {"reference/test_only": 9, "reference/val_only": 12, "reference/val_missed": 2},
            "clearly below the exact linear reference (80.0%): 42.9 points less (17.4 to 60.8 with 95% confidence)",
            "Take the exact linear solution",
            "model=resnet50 optimizer=exact weight_decay=0.03",
        ),
        ({"reference/test_missed": 9}, "(2x chance), clearly above", "Classify", "predict.py"),
        ({"reference/test_missed": 5}, "not clearly different from", "Classify", "predict.py"),
        ({"test/accuracy": 0.34}, "(hardly above chance)", "Classify", "predict.py"),
        ({"debug": True}, "", "Run it on all photos.", "train.py data.dir"),
        ({"in_several_splits": 2}, "", "Keep each photo in one split", "train.py data.dir"),
        (
            {"pretrained": False},
            "",
            "Train on pretrained weights.",
            "train.py data.dir=nowhere/dog_breeds model=resnet50",
        ),
    ],
    ids=["fine", "behind", "ahead", "a little ahead", "chance", "debug", "leak", "random"],
)
def test_the_first_lines_say_how_good_and_what_next(
    metrics: dict[str, object], verdict: str, advice: str, command: str, tmp_path: Path
) -> None:
    said = opened(Drawn(tmp_path, classes=3), **{"test/accuracy": 0.8, "val/accuracy": 0.8} | metrics)
    assert verdict in said.verdict
    assert said.advice.startswith(advice)
    assert command in said.commands[0]
    bad = {"debug", "in_several_splits", "pretrained", "reference/test_only"} & set(metrics)
    assert len(said.problems) == len(bad)


@pytest.mark.parametrize("status", ["IssuesFound", "NoIssuesFound", "NotApplicable", ""])
def test_a_head_below_the_reference_is_said_once(status: str, tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    entries = [rule("HeadBelowReference", status, "the head is below", "Search.")] if status else []
    (drawn.directory / "rules.json").write_text(json.dumps({"rules": entries}))
    found = opened(drawn, **{"reference/val_only": 7})
    title = "The exact linear solution is better than the trained head."
    text = "By 33.3 points (9.8 to 51.1) on validation photos, 0.0 points (-8.5 to 8.5) on test photos."
    assert [(problem.title, problem.text) for problem in found.problems] == [(title, text)]
    assert found.commands[0].endswith("optimizer=exact weight_decay=0.03")


def test_a_rule_with_a_threshold_of_its_own_is_heard(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    entries = [rule("HeadBelowReference", "IssuesFound", "the head is below", "Take it.")]
    (drawn.directory / "rules.json").write_text(json.dumps({"rules": entries}))
    found = opened(drawn, **{"reference/val_only": 2})
    assert ([problem.title for problem in found.problems], found.advice) == (["HeadBelowReference:"], "Take it.")


def test_how_many_more_photos_would_settle_it(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    drawn.config()
    drawn.metrics(**{"reference/test_only": 4, "reference/test_missed": 3})
    assert numbers(read_run(drawn.directory)).content["exact"] == (
        "Only the exact linear solution gets 4 test photos right, only the trained head 3: "
        "the trained head has 4.8 points less (-19.7 to 28.4 with 95% confidence); about 1,100 more test photos "
        "would settle it."
    )


def test_photos_in_several_splits_are_said_once(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    entries = [rule("SplitLeakage", "IssuesFound", "1 photo appears in more than one split", "Remove it.")]
    (drawn.directory / "rules.json").write_text(json.dumps({"rules": entries}))
    found = opened(drawn, in_several_splits=1, **{"val/accuracy": 0.8})
    assert [(one.title, one.text) for one in found.problems] == [
        ("1 photo appears in more than one split.", "The scores are inflated.")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("LossNotDecreasing", "lr=0.001"), ("ExplodingTensor", "lr=0.0001"), ("Overfit", "data.views=4")],
)
def test_the_advice_of_a_rule_becomes_a_command(name: str, expected: str, tmp_path: Path) -> None:
    drawn = Drawn(tmp_path)
    entry = {"name": name, "status": "IssuesFound", "count": 1, "message": "so", "advice": "Do.", "steps": [1]}
    (drawn.directory / "rules.json").write_text(json.dumps({"rules": [entry]}))
    said = opened(drawn, **{"test/accuracy": 0.8, "val/accuracy": 0.8})
    assert said.advice == "Do."
    assert said.commands == [f"python train.py data.dir=nowhere/dog_breeds model=resnet50 {expected}"]


def test_phases_within_others_are_told_apart() -> None:
    phases = [Phase("validation", 3, 4), Phase("validation", 5, 6), Phase("training", 2, 7), Phase("test", 7, 8)]
    assert [phase.name for phase in outermost(phases)] == ["training", "test"]
    drawn = phase_chart(phases, Timeline(Measurements([], [], phases)))
    (view,) = drawn.views.values()
    (bars,) = view["data"]
    again = ["validation<br>2 s in 2"] * 2
    assert (bars["y"], bars["base"]) == ([*again, "training<br>5 s", "test<br>1 s"], [1, 3, 0, 5])


def test_suspected_photos_have_their_words_and_no_photo_from_elsewhere(tmp_path: Path) -> None:
    drawn = Drawn(tmp_path / "run").everything()
    Image.new("RGB", (64, 64), (10, 200, 10)).save(tmp_path / "secret.jpg")
    (tmp_path / "photos").mkdir()
    config = (drawn / "config.yaml").read_text().replace("nowhere/dog_breeds", str(tmp_path / "photos"))
    (drawn / "config.yaml").write_text(config)
    section = build_report(drawn).read_text().split('id="audit"')[1].split("</section>")[0]
    assert "Breed 2 hound?" in section and "is Breed 1 terrier 1.2%" in section
    assert "4.2 deviations from its breed" in section
    assert "copy of a" in section
    assert "<img" not in section and "<3>" not in section
    (drawn / "audit.csv").unlink()
    assert "Photos with a doubt" in build_report(drawn).read_text().split('id="missing"')[1]
