"""The catalogue: rules by their documented names, with their documented defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dogbreeds.debug.catalogue import RULES, issues, judge, rule_problems, rules_of, save_judgements
from dogbreeds.debug.record import TRAIN, Record, Row
from dogbreeds.debug.rules.verdict import ERROR, ISSUES, NO_ISSUES, NOT_APPLICABLE, Verdict
from dogbreeds.errors import ConfigError
from tests.conftest import Compose

# The developer guide's lists of built-in rules and profiler rules.
DOCUMENTED = {
    "LossNotDecreasing": {"num_steps": 10, "diff_percent": 0.1, "increase_threshold_percent": 5},
    "Overfit": {"start_step": 0, "patience": 1, "ratio_threshold": 0.1},
    "Overtraining": {"patience_train": 5, "patience_validation": 10, "delta": 0.01},
    "PoorWeightInitialization": {"threshold": 10.0, "distribution_range": 0.001, "patience": 5, "steps": 10},
    "VanishingGradient": {"threshold": 1e-7},
    "ExplodingTensor": {"only_nan": False},
    "UnchangedTensor": {"num_steps": 3, "rtol": 1e-5, "atol": 1e-8},
    "WeightUpdateRatio": {"large_threshold": 10.0, "small_threshold": 1e-8, "epsilon": 1e-9},
    "AllZero": {"threshold": 100},
    "ClassImbalance": {"threshold_imbalance": 10, "threshold_misprediction": 0.7, "samples": 500},
    "Confusion": {"min_diag": 0.9, "max_off_diag": 0.1},
    "StalledTrainingRule": {"threshold": 1800},
    "DeadRelu": {"threshold_inactivity": 1.0, "threshold_layer": 50.0},
    "LowGPUUtilization": {"threshold_p95": 70, "threshold_p5": 10, "window": 500, "patience": 1000},
    "CPUBottleneck": {"threshold": 50, "gpu_threshold": 10, "cpu_threshold": 90, "patience": 100},
    "IOBottleneck": {"threshold": 50, "gpu_threshold": 70, "io_threshold": 50, "patience": 1000},
    "GPUMemoryIncrease": {"increase": 10, "window": 500, "patience": 100},
    "BatchSize": dict.fromkeys(("cpu_threshold_p95", "gpu_threshold_p95", "gpu_memory_threshold_p95"), 70)
    | {"window": 500, "patience": 100},
    "LoadBalancing": {"threshold": 0.5, "patience": 10},
    "MaxInitializationTime": {"threshold": 20},
    "StepOutlier": {"stddev": 5, "n_outliers": 10, "mode": None},
    "OverallSystemUsage": {},
}
OUR_OWN = {
    *("DataWaits", "HeadBelowReference", "SplitLeakage", "SuspectLabels", "NearDuplicates"),
    *("ClassNeverPredicted", "SearchedRangeEdge"),
}
FLAT = Record([Row(TRAIN, step, 1, float(step), {"loss": 1.0}) for step in range(20)])


#: What the service's rules do not have; nothing changes as long as they are not set.
ADDED = {
    "LossNotDecreasing": {"share_of_first": 0},
    "PoorWeightInitialization": {"first_loss": 0},
    "VanishingGradient": {"patience": 0},
}


def test_the_defaults_are_the_documented_ones() -> None:
    for name, documented in DOCUMENTED.items():
        assert vars(RULES[name]()) == {**documented, **ADDED.get(name, {})}, name


def test_the_preset_names_every_rule(config: Compose) -> None:
    preset = config().debugger.rules
    assert set(preset) == set(RULES) == {*DOCUMENTED, *OUR_OWN}
    assert not list(rule_problems(preset))


def test_parameters_of_the_config_replace_them() -> None:
    rules = rules_of({"LossNotDecreasing": {"num_steps": 15}, "Overfit": {}, "AllZero": None})
    assert list(rules) == ["LossNotDecreasing", "Overfit"]
    assert vars(rules["LossNotDecreasing"]) == {**vars(RULES["LossNotDecreasing"]()), "num_steps": 15}


def test_what_is_not_in_the_catalogue_is_said_with_what_is() -> None:
    first, second, third, *others = rule_problems(
        {
            "Overfitt": {},
            "LossNotDecreasing": {"steps": 3},
            "Overtraining": {"delta": "many"},
            "Overfit": True,
            "Confusion": [0.3],
            "AllZero": None,
        }
    )
    assert first.startswith("debugger.rules.Overfitt: there is no such rule. Did you mean Overfit?")
    assert "StalledTrainingRule" in first
    assert second.startswith("debugger.rules.LossNotDecreasing.steps: there is no such parameter.")
    assert "num_steps, diff_percent" in second
    assert third == ("debugger.rules.Overtraining.delta: Value 'many' of type 'str' could not be converted to Float.")
    places = ["debugger.rules.Overfit=True", "debugger.rules.Confusion=[0.3]"]
    assert others == [f"{place}: must be its parameters, {{}} for the defaults, or null." for place in places]


@pytest.mark.parametrize("value", [2.5, True, "2.5", None])
def test_a_number_of_steps_is_a_whole_number(value: object) -> None:
    (problem,) = rule_problems({"LossNotDecreasing": {"num_steps": value}})
    assert problem.startswith("debugger.rules.LossNotDecreasing.num_steps: ")


def test_a_config_with_wrong_rules_is_refused(config: Compose) -> None:
    with pytest.raises(ConfigError, match=r"debugger.rules.Overfit.ratio: there is no such parameter"):
        config("+debugger.rules.Overfit.ratio=3")


def test_judgements_are_written_in_the_words_of_the_service(tmp_path: Path) -> None:
    found = judge(rules_of({"LossNotDecreasing": {}, "Overfit": {}, "Overtraining": {"patience_train": 30}}), FLAT)
    assert [one.verdict.status for one in found] == [ISSUES, NOT_APPLICABLE, NO_ISSUES]
    assert [one.name for one in issues(found)] == ["LossNotDecreasing"]
    save_judgements(tmp_path, found)
    first, second, third = json.loads((tmp_path / "rules.json").read_text())["rules"]
    assert (first["name"], first["status"], first["count"]) == ("LossNotDecreasing", "IssuesFound", 10)
    assert first["steps"] == list(range(10, 20))
    assert first["message"] and first["advice"]
    assert first["parameters"] == vars(RULES["LossNotDecreasing"]())
    assert first["description"].startswith("The training loss falls by less than")
    assert (second["status"], third["status"], third["count"]) == ("NotApplicable", "NoIssuesFound", 0)


def test_a_rule_that_breaks_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def judge(self, record: Record) -> Verdict:
            raise ZeroDivisionError("nothing to divide by")

    found = judge({"Broken": Broken(), **rules_of({"LossNotDecreasing": {}})}, FLAT)
    assert [one.verdict.status for one in found] == [ERROR, ISSUES]
    assert found[0].verdict.message == "ZeroDivisionError: nothing to divide by"
    assert "rule Broken" in caplog.text
