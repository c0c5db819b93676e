from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_sagemaker import LocalSageMaker
from local_sagemaker.tuning.sampler import Sampler
from tests.local_sagemaker.conftest import Begin
from tests.local_sagemaker.jobs import (
    BUCKET,
    answer_problems,
    log_lines,
    refusal,
    tuning_job,
    upload_code,
    wait_for,
    wait_for_tuning,
)

pytestmark = pytest.mark.slow

# The best learning rate is 0.3.
SCRIPT = """
import json, os
lr = json.loads(os.environ["SM_HPS"])["lr"]
print("lr", repr(lr))
print(f"val/loss={(lr - 0.3) ** 2 + 1}")
"""
CHOICES = {"CategoricalParameterRanges": [{"Name": "lr", "Values": ["0.1", "0.3", "0.5", "0.9"]}]}


def create(local: LocalSageMaker, name: str, config: dict[str, Any], script: str = SCRIPT, **members: Any) -> None:
    code = upload_code(local.client("s3"), script)
    request = tuning_job(name, code, config)
    local.client("sagemaker").create_hyper_parameter_tuning_job(**{**request, **members})


def children(local: LocalSageMaker, name: str) -> list[dict[str, Any]]:
    call = local.client("sagemaker").list_training_jobs_for_hyper_parameter_tuning_job
    found: list[dict[str, Any]] = call(HyperParameterTuningJobName=name, MaxResults=100)["TrainingJobSummaries"]
    return found


def limits(count: int, parallel: int) -> dict[str, int]:
    return {"MaxNumberOfTrainingJobs": count, "MaxParallelTrainingJobs": parallel}


def test_a_grid_tries_everything_and_reports_the_best(begin: Begin, tmp_path: Path) -> None:
    local = begin()
    grid = {"Strategy": "Grid", "ResourceLimits": {"MaxParallelTrainingJobs": 2}, "ParameterRanges": CHOICES}
    create(local, "grid", grid)
    job = wait_for_tuning(local.client("sagemaker"), "grid")

    assert job["HyperParameterTuningJobStatus"] == "Completed", job.get("FailureReason")
    assert job["TrainingJobStatusCounters"]["Completed"] == 4
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 4, "Pending": 0, "Failed": 0}
    best = job["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"lr": "0.3"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 1.0
    found = children(local, "grid")
    assert {each["TunedHyperParameters"]["lr"] for each in found} == {"0.1", "0.3", "0.5", "0.9"}
    assert all(re.fullmatch(r"grid-00[1-4]-[0-9a-f]{8}", each["TrainingJobName"]) for each in found)
    child = local.client("sagemaker").describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert child["TuningJobArn"] == job["HyperParameterTuningJobArn"]
    assert child["HyperParameters"]["_tuning_objective_metric"] == "val/loss"
    assert "lr 0.3" in log_lines(local.client("logs"), best["TrainingJobName"])
    answer = {name: job[name] for name in job if name != "ResponseMetadata"}
    assert answer_problems("DescribeHyperParameterTuningJob", answer) == ""


def test_parallel_jobs_are_as_many_as_allowed(begin: Begin) -> None:
    local = begin()
    create(local, "parallel", {"ResourceLimits": limits(4, 2)}, "print('val/loss=1')")
    wait_for_tuning(local.client("sagemaker"), "parallel")
    found = children(local, "parallel")
    assert len(found) == 4
    most = max(
        sum(other["CreationTime"] <= each["CreationTime"] < other["TrainingEndTime"] for other in found)
        for each in found
    )
    assert most == 2


def test_the_median_rule_ends_jobs_that_fall_behind(begin: Begin) -> None:
    local = begin()
    script = """
import json, os, time
lr = float(json.loads(os.environ["SM_HPS"])["lr"])
print(f"val/loss={lr}", flush=True)
if lr > 0.5:
    time.sleep(300)
"""
    config = {
        "Strategy": "Grid",
        "ResourceLimits": {"MaxParallelTrainingJobs": 1},
        "ParameterRanges": {"CategoricalParameterRanges": [{"Name": "lr", "Values": ["0.4", "0.3", "0.2", "0.9"]}]},
        "TrainingJobEarlyStoppingType": "Auto",
    }
    create(local, "median", config, script)
    job = wait_for_tuning(local.client("sagemaker"), "median")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["Stopped"] == 1
    assert job["ObjectiveStatusCounters"]["Succeeded"] == 4
    (stopped,) = (each for each in children(local, "median") if each["TrainingJobStatus"] == "Stopped")
    assert stopped["TunedHyperParameters"] == {"lr": "0.9"}


def test_a_job_that_fails_costs_the_search_nothing_else(begin: Begin) -> None:
    local = begin()
    script = SCRIPT + "assert lr != 0.9, 'too much'"
    config = {"Strategy": "Grid", "ResourceLimits": {"MaxParallelTrainingJobs": 2}, "ParameterRanges": CHOICES}
    create(local, "mixed", config, script)
    job = wait_for_tuning(local.client("sagemaker"), "mixed")
    assert job["HyperParameterTuningJobStatus"] == "Completed"
    assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 1
    assert job["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 1}


def test_a_search_whose_jobs_all_fail_has_failed(begin: Begin) -> None:
    local = begin()
    create(local, "failing", {"ResourceLimits": limits(2, 2)}, "raise SystemExit(3)")
    job = wait_for_tuning(local.client("sagemaker"), "failing")
    assert job["HyperParameterTuningJobStatus"] == "Failed"
    assert "All training jobs failed" in job["FailureReason"]
    assert "BestTrainingJob" not in job


def test_a_stopped_search_stops_its_jobs_and_keeps_the_best(begin: Begin) -> None:
    local = begin()
    sagemaker = local.client("sagemaker")
    create(local, "stopped", {"ResourceLimits": limits(9, 2)}, SCRIPT + "import time; time.sleep(300)")
    while (
        not all(
            "val/loss" in str(wait_for(sagemaker, each["TrainingJobName"], secondary="Training")["FinalMetricDataList"])
            for each in children(local, "stopped")
        )
        or len(children(local, "stopped")) < 2
    ):
        time.sleep(0.1)
    sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")
    job = wait_for_tuning(sagemaker, "stopped")
    assert job["HyperParameterTuningJobStatus"] == "Stopped"
    assert job["TrainingJobStatusCounters"]["Stopped"] == 2
    assert "BestTrainingJob" in job
    with pytest.raises(ClientError, match="cannot be stopped"):
        sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="stopped")


def test_a_warm_start_goes_on_from_ended_parents(begin: Begin) -> None:
    local = begin()
    sagemaker = local.client("sagemaker")
    warm = {
        "ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "parent"}],
        "WarmStartType": "TransferLearning",
    }
    code = f"s3://{BUCKET}/none"
    message = refusal(
        sagemaker.create_hyper_parameter_tuning_job, **tuning_job("child", code, {}), WarmStartConfig=warm
    )
    assert message == ("ValidationException", "Requested resource not found.")
    create(local, "parent", {"ResourceLimits": limits(2, 2)})
    wait_for_tuning(sagemaker, "parent")
    create(local, "child", {"ResourceLimits": limits(1, 1), "Strategy": "Bayesian"}, WarmStartConfig=warm)
    job = wait_for_tuning(sagemaker, "child")
    assert job["HyperParameterTuningJobStatus"] == "Completed", job.get("FailureReason")
    maximum = {"Type": "Maximize", "MetricName": "val/loss"}
    other = tuning_job("other", code, {"HyperParameterTuningJobObjective": maximum})
    code, said = refusal(sagemaker.create_hyper_parameter_tuning_job, **other, WarmStartConfig=warm)
    assert "another objective" in said


def config_of(strategy: str, ranges: dict[str, Any], **members: Any) -> dict[str, Any]:
    objective = {"Type": "Minimize", "MetricName": "val/loss"}
    return {"Strategy": strategy, "HyperParameterTuningJobObjective": objective, "ParameterRanges": ranges, **members}


def drawn(kind: str, count: int, **members: str) -> list[float]:
    sampler = Sampler(config_of("Random", {f"{kind}ParameterRanges": [{"Name": "x", **members}]}), seed=1)
    return [float(sampler.ask()[1]["x"]) for _ in range(count)]


@pytest.mark.parametrize(
    ("scaling", "below_a_tenth", "above_nine_tenths"), [("Linear", 0.1, 0.1), ("Logarithmic", 0.67, 0.02)]
)
def test_values_are_spread_as_their_scaling_says(scaling: str, below_a_tenth: float, above_nine_tenths: float) -> None:
    values = drawn("Continuous", 500, MinValue="0.001", MaxValue="1", ScalingType=scaling)
    assert sum(value < 0.1 for value in values) / 500 == pytest.approx(below_a_tenth, abs=0.06)
    assert sum(value > 0.9 for value in values) / 500 == pytest.approx(above_nine_tenths, abs=0.06)


def test_whole_numbers_stay_whole() -> None:
    values = drawn("Integer", 200, MinValue="1", MaxValue="4")
    assert set(values) == {1.0, 2.0, 3.0, 4.0}
    sampler = Sampler(
        config_of("Random", {"IntegerParameterRanges": [{"Name": "x", "MinValue": "1", "MaxValue": "4"}]}), 1
    )
    assert sampler.ask()[1]["x"] in ("1", "2", "3", "4")


def test_a_model_learns_from_parents() -> None:
    """The results of a parent say where the best value is: a warm sampler is nearer to it than a cold one."""
    ranges = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]}

    def distance(sampler: Sampler) -> float:
        found = [float(sampler.ask()[1]["x"]) for _ in range(8)]
        return sum(abs(value - 0.2) for value in found) / len(found)

    warm = Sampler(config_of("Bayesian", ranges), seed=3)
    points = [number / 40 for number in range(41)]
    warm.learn([({"x": str(point)}, (point - 0.2) ** 2) for point in points])
    # Other names and values outside are no results for these ranges.
    warm.learn([({"y": "0.5"}, -1.0), ({"x": "7"}, -1.0)])
    assert distance(warm) < 0.6 * distance(Sampler(config_of("Bayesian", ranges), seed=3))


def test_hyperband_ends_what_falls_behind() -> None:
    resources = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}}
    ranges = {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]}
    sampler = Sampler(config_of("Hyperband", ranges, StrategyConfig=resources), seed=0)
    ended = 0
    for number in range(20):
        trial, _ = sampler.ask()
        bad = number % 2
        behind = any(sampler.falls_behind(trial, [(epoch, bad + 1 / epoch)]) for epoch in range(1, 10))
        sampler.tell(trial, bad + 0.1)
        ended += bool(bad and behind)
    assert ended >= 5


@pytest.mark.ci
def test_hyperband_runs_as_a_tuning_job(begin: Begin) -> None:
    """One job after the other, each with a pause in which it can be looked at: whatever the machine's speed."""
    local = begin()
    script = """
import json, os, time
lr = json.loads(os.environ["SM_HPS"])["lr"]
for epoch in range(1, 10):
    print(f"val/loss={lr}", flush=True)
time.sleep(3)
"""
    config = {
        "Strategy": "Hyperband",
        "ResourceLimits": limits(4, 1),
        "StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 9}},
        "RandomSeed": 7,
    }
    create(local, "bands", config, script)
    job = wait_for_tuning(local.client("sagemaker"), "bands")
    assert job["HyperParameterTuningJobStatus"] == "Completed", job.get("FailureReason")
    counters = job["TrainingJobStatusCounters"]
    assert counters["Stopped"] >= 1
    assert counters["Stopped"] + counters["Completed"] == 4
