"""The features of a tuning job's trials: computed once, whatever happens to the command that began it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from dogbreeds.errors import ConfigError, Interrupted, UserError
from dogbreeds.sagemaker.launch import features
from dogbreeds.sagemaker.launch.launcher import JobPlan, Launcher, Note
from dogbreeds.sagemaker.protocol.inputs import JobInputs
from dogbreeds.schema import SagemakerConfig
from tests.conftest import Compose
from tests.sagemaker.conftest import Launch

JOBS = "s3://bucket/jobs"


class MemoryStorage:
    """Holds the objects of a bucket in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    def uri(self, *parts: str) -> str:
        return "/".join(("s3://bucket", *parts))

    def exists(self, uri: str) -> bool:
        return uri in self.objects

    def read_json(self, uri: str) -> Any:
        return self.objects[uri]

    def write_json(self, uri: str, content: Mapping[str, str]) -> None:
        self.objects[uri] = dict(content)


class FakeLauncher:
    """Stands for AWS: its jobs have the status that a test gives them."""

    account = None

    def __init__(self, settings: SagemakerConfig) -> None:
        self.settings, self.storage = settings, MemoryStorage()
        self.plans: list[JobPlan] = []
        self.status: dict[str, str] = {}
        self.followed: list[str] = []
        self.outcome = "Completed"
        self._numbers = itertools.count(1)

    def upload(self, inputs: JobInputs) -> dict[str, str]:
        return {"photos": "s3://bucket/photos/0123/"}

    def new_name(self) -> str:
        return f"job-{next(self._numbers)}"

    def run(self, plan: JobPlan, note: Note) -> dict[str, Any]:
        note(plan.name)
        self.plans.append(plan)
        self.status[plan.name] = self.outcome
        if self.outcome == "InProgress":
            raise Interrupted("Left.")
        return self.end(plan.name, self.outcome)

    def end(self, job: str, status: str) -> dict[str, Any]:
        self.status[job] = status
        if status == "Completed":
            self.storage.objects[output(job)] = b"features"
        return self.describe(job)

    def describe(self, job: str) -> dict[str, Any]:
        found = {"TrainingJobName": job, "TrainingJobStatus": self.status[job]}
        return {**found, "OutputDataConfig": {"S3OutputPath": JOBS}}


class FakeHandle:
    """A job of the launcher that a test has made last."""

    launcher: FakeLauncher

    def __init__(self, account: object, name: str) -> None:
        self.name = name

    def exists(self) -> bool:
        return self.name in self.launcher.status

    def status(self) -> str:
        return self.launcher.status[self.name]

    def describe(self) -> dict[str, Any]:
        return self.launcher.describe(self.name)

    def wait(self) -> dict[str, Any]:
        self.launcher.followed.append(self.name)
        return self.launcher.end(self.name, "Completed")


def output(job: str) -> str:
    return f"{JOBS}/{job}/output/output.tar.gz"


Start = Callable[..., FakeLauncher]


@pytest.fixture
def start(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> Start:
    def started(*overrides: str) -> FakeLauncher:
        launcher = FakeLauncher(launch(*overrides).sagemaker)
        monkeypatch.setattr(FakeHandle, "launcher", launcher, raising=False)
        monkeypatch.setattr(features, "JobHandle", FakeHandle)
        return launcher

    return started


def test_a_job_that_was_left_is_followed_by_the_same_command(config: Compose, start: Start) -> None:
    launcher = start("sagemaker.features_instances=4")
    launcher.outcome = "InProgress"
    with pytest.raises(Interrupted):
        features.trial_features(cast(Launcher, launcher), config())
    assert features.trial_features(cast(Launcher, launcher), config()) == output("job-1")
    assert launcher.followed == ["job-1"]
    assert [(plan.name, plan.instances, plan.instance) for plan in launcher.plans] == [("job-1", 4, "ml.g5.xlarge")]


def test_what_was_completed_meanwhile_is_taken(config: Compose, start: Start) -> None:
    launcher = start()
    launcher.outcome = "InProgress"
    with pytest.raises(Interrupted):
        features.trial_features(cast(Launcher, launcher), config())
    launcher.end("job-1", "Completed")
    for _ in range(2):
        assert features.trial_features(cast(Launcher, launcher), config()) == output("job-1")
    assert len(launcher.plans) == 1 and launcher.followed == []


@pytest.mark.parametrize("happened", ["Failed", "Stopped", "never began", "output is gone"])
def test_another_job_is_begun_where_there_are_no_features(config: Compose, start: Start, happened: str) -> None:
    launcher = start()
    launcher.outcome = happened if happened in ("Failed", "Stopped") else "Completed"
    if launcher.outcome == "Completed":
        features.trial_features(cast(Launcher, launcher), config())
    else:
        with pytest.raises(UserError, match=f"could not be computed.\nstatus {happened}"):
            features.trial_features(cast(Launcher, launcher), config())
    launcher.outcome = "Completed"
    if happened == "never began":
        del launcher.status["job-1"]
    if happened == "output is gone":
        del launcher.storage.objects[output("job-1")]
    assert features.trial_features(cast(Launcher, launcher), config()) == output("job-2")


def test_only_what_decides_the_features_makes_them_others(config: Compose, start: Start) -> None:
    launcher, given = start(), config()
    features.trial_features(cast(Launcher, launcher), given)
    elsewhere = replace(given, data=replace(given.data, dir="/another/folder", workers=7))
    assert features.trial_features(cast(Launcher, launcher), elsewhere) == output("job-1")
    for number, other in enumerate((config("seed=3"), config("features.mirror=true"), config("data.views=2")), 2):
        assert features.trial_features(cast(Launcher, launcher), other) == output(f"job-{number}")


def test_this_machine_is_one_instance(config: Compose, start: Start) -> None:
    launcher = start("sagemaker.features_instance=null", "sagemaker.features_instances=2")
    with pytest.raises(ConfigError, match=r"sagemaker\.features_instances=2: name their type"):
        features.trial_features(cast(Launcher, launcher), config())
