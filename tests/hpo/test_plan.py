"""The plan of a search: what a command line comes to, and what is refused before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from dogbreeds.errors import ConfigError, DataError
from dogbreeds.hpo.plan import Plan
from dogbreeds.hpo.settings import OBJECTIVES, Objective
from dogbreeds.hpo.space import Choice, Interval
from tests.hpo.conftest import MakePlan, composed, list_of

pytestmark = pytest.mark.slow


@pytest.mark.ci
def test_the_usual_searches(plan: MakePlan) -> None:
    bayes = plan("hpo=bayes")
    assert bayes.space.dimensions == {
        "lr": Interval(0.001, 0.1, "log", integer=False),
        "batch_size": Choice(("128", "256", "512"), ordered=False),
    }
    assert (bayes.settings.trials, bayes.settings.objective) == (4, "val/loss")
    for name in ("random", "hyperband"):
        made = plan(f"hpo={name}", "epochs=10")
        assert (made.space.dimensions, made.settings.strategy) == (bayes.space.dimensions, name)
    assert plan("hpo=grid").space.size == 15
    exact = plan("hpo=exact")
    assert {config.optimizer for config in exact.corners} == {"exact"}
    assert list(exact.space.dimensions) == ["weight_decay"]


def test_the_space_of_the_config_can_be_overridden_in_quotes(plan: MakePlan) -> None:
    made = plan("hpo=random", 'hpo.space.lr="int(interval(1, 3))"', "hpo.space.batch_size=null")
    assert made.space.dimensions == {"lr": Interval(1, 3, "auto", integer=True)}


def test_without_a_search_the_command_line_is_the_grid(plan: MakePlan) -> None:
    made = plan("lr=0.1,0.01", "model.head=linear,mlp")
    assert made.settings.strategy == "grid"
    assert made.space.size == 4


def test_a_trial_is_composed_as_hydra_would(plan: MakePlan) -> None:
    made = plan("hpo=random", "model=resnet18,vgg16", "model.hidden=[8],[16,4]", "weight_decay=0.5", "lr=0.25")
    config = made.config({"model": "vgg16", "model.hidden": "[16,4]", "batch_size": "512"}, Path("place"))
    assert (config.model.backbone, config.model.hidden, config.batch_size) == ("vgg16", [16, 4], 512)
    assert (config.weight_decay, config.lr, config.run_dir, config.resume) == (0.5, 0.25, "place", None)
    assert made.config({"model": "resnet18", "model.hidden": "[8]", "batch_size": "128"}, Path()).batch_size == 128


def test_the_command_line_of_a_trial(plan: MakePlan) -> None:
    made = plan("hpo=random", "hpo.trials=3", "model.head=mlp")
    overrides = made.overrides({"lr": 0.05, "batch_size": "512"})
    assert overrides[-2:] == ["lr=0.05", "batch_size=512"]
    assert {"hpo=random", "model.head=mlp", "model=squeezenet1_1"} < set(overrides)
    assert not [override for override in overrides if override.startswith(("hpo.", "resume="))]


def test_the_most_epochs_are_those_of_the_space(plan: MakePlan) -> None:
    assert plan("hpo=random").epochs == 3
    assert plan("hpo=random", "epochs=int(interval(2, 30))").epochs == 30
    assert plan("epochs=5,7").epochs == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["seed=1"], "nothing to search: add hpo=bayes"),
        (["hpo=random", "hpo.trials=0"], "hpo.trials=0: must be at least 1"),
        (["hpo=random", "hpo.trials=null"], "hpo.strategy=random needs a budget: hpo.trials=16"),
        (["hpo=random", "hpo.strategy=luck"], "hpo.strategy=luck: must be one of grid, random, bayes, hyperband"),
        (["hpo=random", "hpo.objective=val/los"], "hpo.objective=val/los: Did you mean val/loss?"),
        # The temperature is fitted to the validation photos themselves.
        (["hpo=random", "hpo.objective=val/calibration_error"], "It must be one of val/accuracy, val/top5_accuracy"),
        (["hpo=grid", "hpo.trials=3"], "a grid runs all its combinations"),
        (["lr=0.1,0.2", "hydra.sweep.subdir=x"], "hydra.sweep.subdir=x: a search runs its trials in one process"),
        (["lr=interval(0.1, 0.2)"], "lr: a grid cannot enumerate an interval. List values, such as lr=0.1,0.2"),
        (["hpo=hyperband", "hpo.min_epochs=0"], "hpo.min_epochs=0 epochs=3: hpo=hyperband stops"),
        (["hpo=hyperband", "hpo.objective=test/accuracy"], "not measured after each epoch"),
        (["hpo=hyperband", "optimizer=exact", "weight_decay=0.1"], "no epochs that hpo=hyperband could cut short"),
        (["hpo=hyperband"], "hpo.min_epochs=3 epochs=3"),
        (["hpo=random", "trainer=ddp"], "trainer.strategy=ddp trainer.devices=auto: a search runs its trials in one"),
        (["hpo=random", "trainer.devices=2"], "trainer.devices=2: a search runs its trials in one process"),
        (["seed=range(0, 100000)"], "A grid of 100,000 combinations"),
        (["hpo=random", "run_dir=elsewhere"], "run_dir=elsewhere: a search writes its trials below hydra.sweep.dir"),
        (["hpo=random", "features.batch_size=interval(1, 9)"], "features.batch_size takes whole numbers"),
        (["optimizer=adam,fast"], "optimizer=fast: must be one of adam"),
        (["lr=-1,1"], "lr=-1.0: must be above 0"),
        (["hpo=random", "epochs=interval(1, 5.5)"], "epochs takes whole numbers: write epochs=int(interval("),
        (["model=squeezenet1_1,resnet5"], "resnet5"),
        (["run_dir=a,b"], "run_dir cannot be searched"),
        (["hpo=exact", "model.head=linear,mlp"], "model.head=mlp: optimizer=exact needs model.head=linear"),
        (["weight_decay=0,1", "optimizer=exact"], "weight_decay=0.0: optimizer=exact needs above 0"),
    ],
)
def test_what_cannot_be_searched(arguments: list[str], said: str, plan: MakePlan) -> None:
    with pytest.raises(Exception) as caught:
        plan(*arguments)
    assert said in str(caught.value)
    assert isinstance(caught.value, ConfigError) or "resnet5" in said


@pytest.mark.parametrize(
    "sweeps",
    [("optimizer=adam,exact", "weight_decay=0.0,0.03"), ("weight_decay=0.0,0.03", "optimizer=exact,adam")],
    ids=["last", "first"],
)
def test_values_that_do_not_go_together_are_left_to_their_trials(sweeps: tuple[str, str], plan: MakePlan) -> None:
    made = plan(*sweeps)
    assert made.space.size == 4
    assert {config.optimizer for config in made.corners} == {"adam", "exact"}
    with pytest.raises(ConfigError, match=r"model\.head=linear"):
        plan("optimizer=adam,exact", "weight_decay=0.1", "model.head=mlp")


def test_a_grid_changes_least_often_what_takes_longest_to_prepare(plan: MakePlan) -> None:
    made = plan("lr=0.1,0.2", "data.views=0,1", "seed=1,2", "model=squeezenet1_1,resnet18", "model.head=linear,mlp")
    assert list(made.space.dimensions) == ["data.views", "seed", "model", "lr", "model.head"]


def test_another_launcher_is_refused(plan: MakePlan) -> None:
    ConfigStore.instance().store(group="hydra/launcher", name="queue", node={"_target_": "queue.Queue"})
    with pytest.raises(ConfigError, match="hydra/launcher=queue: a search runs its trials in one process"):
        plan("lr=0.1,0.2", "hydra/launcher=queue")


def test_photos_are_looked_for_before_anything_is_tried(plan: MakePlan) -> None:
    with pytest.raises(DataError, match="nowhere"):
        plan("hpo=random", "data.dir=nowhere")


def test_objectives_know_their_direction() -> None:
    assert not Objective("val/loss").maximize
    assert Objective("test/accuracy").maximize
    assert {name for name in OBJECTIVES if not Objective(name).maximize} == {
        "val/loss", "test/loss", "test/calibration_error",
    }  # fmt: skip


def test_one_list_is_left_out_by_all_trials(small: list[str], sample: Path, tmp_path: Path) -> None:
    file = list_of(sample, tmp_path / "wrong.txt", 1)

    def by_model(overrides: Sequence[str]) -> DictConfig:
        config = composed(overrides)
        config.data.exclude = str(file) if "model=resnet18" in overrides else None
        return config

    with pytest.raises(ConfigError, match=r"data.exclude is None and .*wrong.txt: all trials"):
        Plan([*small, "model=squeezenet1_1,resnet18"], by_model, None)


def test_jobs_get_the_copy(plan: MakePlan, sample: Path, tmp_path: Path) -> None:
    made = plan("lr=0.1,0.01", f"data.exclude={list_of(sample, tmp_path / 'wrong.txt', 1)}")
    made.keep_files(tmp_path / "search")
    copy = str(tmp_path / "search" / "excluded.csv")
    assert {one.data.exclude for one in (made.first(tmp_path), *made.corners)} == {copy}
    assert f"data.exclude={copy}" in " ".join(made.overrides({"lr": "0.1"})).replace("'", "")
