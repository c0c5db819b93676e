"""What the smdebug hook writes, read back with smdebug; for the environment that `make test-smdebug` makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip(
    "smdebug.pytorch", reason="smdebug needs an environment of its own: make test-smdebug", exc_type=ImportError
)

from smdebug.core.utils import error_handling_agent
from smdebug.pytorch import get_hook, modes
from smdebug.trials import create_trial

from dogbreeds.debug.hook import SmdebugHook
from dogbreeds.debug.hook_settings import check_smdebug
from dogbreeds.errors import ConfigError
from tests.smdebug.fits import BATCHES, STEPS, Seen, StopsAt, classifier, fit

LOSS = "CrossEntropyLoss_output_0"
WEIGHT = "BreedClassifier_head.layers.0.weight"
VARIABLE = "SMDEBUG_CONFIG_FILE_PATH"
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning", "ignore:.*LeafSpec:FutureWarning")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def steps(trial: Any, name: str, mode: Any) -> list[int]:
    found: list[int] = trial.tensor(name).steps(mode=mode)
    return found


def values(trial: Any, name: str, mode: Any) -> dict[int, np.ndarray]:
    tensor = trial.tensor(name)
    return {step: tensor.value(step, mode=mode) for step in tensor.steps(mode=mode)}


def losses(trial: Any, mode: Any) -> dict[int, float]:
    return {step: float(value) for step, value in values(trial, LOSS, mode).items()}


def every(seen: list[float], interval: int) -> dict[int, float]:
    return {step: loss for step, loss in enumerate(seen) if step % interval == 0}


def supply(monkeypatch: pytest.MonkeyPatch, directory: Path, **config: Any) -> Path:
    """Writes what a job would, and returns where the tensors go."""
    path, tensors = directory / "debughookconfig.json", directory / "tensors"
    path.write_text(json.dumps({"S3OutputPath": "s3://bucket/run", "LocalPath": str(tensors), **config}))
    monkeypatch.setenv(VARIABLE, str(path))
    return tensors


def test_smdebug_is_there() -> None:
    check_smdebug()


@pytest.mark.parametrize("train_every", [10, 7, 3])
def test_the_loss_keeps_its_schedule_whatever_the_others_have(tmp_path: Path, train_every: int) -> None:
    seen = Seen()
    fit(classifier(), [seen, SmdebugHook(tmp_path / "out", train_every, eval_every=2)])
    trial = create_trial(str(tmp_path / "out"))
    assert (len(seen.losses["TRAIN"]), len(seen.losses["EVAL"])) == (2 * STEPS, 2 * BATCHES)
    assert losses(trial, modes.TRAIN) == every(seen.losses["TRAIN"], 10)
    assert losses(trial, modes.EVAL) == every(seen.losses["EVAL"], 1)
    assert steps(trial, WEIGHT, modes.TRAIN) == list(range(0, 2 * STEPS, train_every))
    assert steps(trial, WEIGHT, modes.EVAL) == [0, 2]


def test_weights_and_gradients_are_those_of_their_step(tmp_path: Path) -> None:
    seen = Seen()
    fit(classifier(tail=True), [seen, SmdebugHook(tmp_path / "out", train_every=5, eval_every=1)])
    trial = create_trial(str(tmp_path / "out"))
    assert "tail.layer4.0.weight" in seen.weights
    for name in seen.weights:
        weights = values(trial, f"BreedClassifier_{name}", modes.TRAIN)
        gradients = values(trial, f"gradient/BreedClassifier_{name}", modes.TRAIN)
        assert list(weights) == list(gradients) == list(range(0, 2 * STEPS, 5))
        for step in weights:
            np.testing.assert_array_equal(weights[step], seen.weights[name][step])
            np.testing.assert_array_equal(gradients[step], seen.gradients[name][step])
            assert weights[step].dtype == gradients[step].dtype == np.float32
        assert steps(trial, f"gradient/BreedClassifier_{name}", modes.EVAL) == []


def test_collections_of_a_head_with_relus(tmp_path: Path) -> None:
    fit(classifier("mlp", tail=True), [SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)])
    trial = create_trial(str(tmp_path / "out"))
    names = [f"{part}.{kind}" for part in ("tail.layer4.0", "head.layers.0", "head.layers.1", "head.layers.4")
             for kind in ("weight", "bias")]  # fmt: skip
    parameters = {f"BreedClassifier_{name}" for name in names}
    assert set(trial.tensor_names(collection="weights")) == {name for name in parameters if name.endswith("weight")}
    assert set(trial.tensor_names(collection="biases")) == {name for name in parameters if name.endswith("bias")}
    assert set(trial.tensor_names(collection="gradients")) == {f"gradient/{name}" for name in parameters}
    assert trial.tensor_names(collection="losses") == trial.tensor_names(collection=LOSS) == [LOSS]
    # What PoorWeightInitialization and DeadRelu look for, of the head alone; and nothing of the trunk.
    assert trial.tensor_names(regex=".*relu_input") == ["head.layers.2.relu_input_0"]
    assert trial.tensor_names(regex=".*relu_output") == ["head.layers.2.relu_output_0"]
    assert trial.tensor_names(collection="relu_input") == ["head.layers.2.relu_input_0"]
    assert not [name for name in trial.tensor_names() if "trunk" in name]


def test_a_linear_head_has_no_collections_of_relus(tmp_path: Path) -> None:
    fit(classifier("linear"), [SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)])
    trial = create_trial(str(tmp_path / "out"))
    assert set(trial.tensor_names()) == {
        LOSS,
        *(
            f"{prefix}BreedClassifier_head.layers.0.{kind}"
            for prefix in ("", "gradient/")
            for kind in ("weight", "bias")
        ),
    }
    assert not {"relu_input", "relu_output"} & set(trial.collections())


def test_the_configuration_of_a_job_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = supply(
        monkeypatch,
        tmp_path,
        HookParameters={"train.save_interval": "6", "eval.save_interval": "3"},
        CollectionConfigurations=[
            {"CollectionName": "losses", "CollectionParameters": {"train.save_interval": "4"}},
            {"CollectionName": "biases", "CollectionParameters": None},
            {"CollectionName": "relu_input", "CollectionParameters": {"include_regex": ".*relu_input"}},
        ],
    )
    seen = Seen()
    fit(classifier(tail=True), [seen, SmdebugHook(tmp_path / "out", train_every=1, eval_every=1)])
    trial = create_trial(str(tensors))
    assert losses(trial, modes.TRAIN) == every(seen.losses["TRAIN"], 4)
    assert losses(trial, modes.EVAL) == every(seen.losses["EVAL"], 3)
    assert steps(trial, "BreedClassifier_head.layers.0.bias", modes.TRAIN) == list(range(0, 2 * STEPS, 6))
    assert set(trial.tensor_names(regex=".*relu_input")) == {"head.layers.2.relu_input_0", "tail.layer4.1.relu_input_0"}
    assert not trial.tensor_names(regex="gradient|weight")
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_cannot_be_used_is_told_before_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen()

    def refused() -> str:
        with pytest.raises(ConfigError) as told:
            fit(classifier(), [seen, SmdebugHook(tmp_path / "out", train_every=1, eval_every=1)])
        return str(told.value)

    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent.json"))
    assert "absent.json" in refused()
    tensors = supply(monkeypatch, tmp_path, CollectionConfigurations=[{"CollectionParameters": {}}])
    assert "debughookconfig.json" in refused() and "CollectionName" in refused()
    Path(tmp_path / "debughookconfig.json").write_text("{")
    assert "debughookconfig.json" in refused()
    supply(monkeypatch, tmp_path)
    tensors.mkdir()
    (tensors / "training_job_end.ts").touch()
    assert str(tensors) in refused()
    assert not seen.losses["TRAIN"]


def test_the_next_run_of_a_process_starts_afresh(tmp_path: Path) -> None:
    module, first, second = classifier(), Seen(), Seen()
    fit(module, [first, SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)])
    assert get_hook() is None
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert not any(parameter._backward_hooks for parameter in module.parameters())
    # As after an error of smdebug itself, which it tells and swallows.
    error_handling_agent.disable_smdebug = True
    fit(module, [second, SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)], epochs=1)
    trial = create_trial(str(tmp_path / "out"))
    assert first.losses != second.losses
    assert losses(trial, modes.TRAIN) == every(second.losses["TRAIN"], 10)
    assert losses(trial, modes.EVAL) == every(second.losses["EVAL"], 1)


def test_what_a_run_that_fails_has_saved_can_be_read(tmp_path: Path) -> None:
    module, seen = classifier(), Seen()
    with pytest.raises(ArithmeticError):
        fit(module, [seen, SmdebugHook(tmp_path / "out", train_every=10, eval_every=1), StopsAt(30)])
    trial = create_trial(str(tmp_path / "out"))
    assert losses(trial, modes.TRAIN) == every(seen.losses["TRAIN"], 10)
    assert list(losses(trial, modes.TRAIN)) == [0, 10, 20, 30]
    assert get_hook() is None
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("killed", [False, True])
def test_a_resumed_run_goes_on_in_the_same_series(tmp_path: Path, killed: bool) -> None:
    whole, out, checkpoint = Seen(), tmp_path / "out", tmp_path / "last.ckpt"
    fit(classifier(), [whole], epochs=4)
    trainer = fit(classifier(), [SmdebugHook(out, train_every=10, eval_every=1)], epochs=2)
    trainer.save_checkpoint(checkpoint)
    if killed:
        (out / "training_job_end.ts").unlink()
        (out / "claim.smd").touch()
    fit(classifier(), [SmdebugHook(out, train_every=10, eval_every=1)], epochs=4, resume=checkpoint)
    trial = create_trial(str(out))
    assert losses(trial, modes.TRAIN) == every(whole.losses["TRAIN"], 10)
    assert losses(trial, modes.EVAL) == every(whole.losses["EVAL"], 1)
    assert steps(trial, f"gradient/{WEIGHT}", modes.TRAIN) == list(range(0, 4 * STEPS, 10))


def test_what_autocast_computes_in_bfloat16_is_saved_as_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = {"include_regex": "head_output", "reductions": "mean"}
    tensors = supply(
        monkeypatch,
        tmp_path,
        HookParameters={"save_all": "true", "save_interval": "10"},
        CollectionConfigurations=[{"CollectionName": "logits", "CollectionParameters": means}],
    )
    module, dtypes = classifier(), set()
    module.head.register_forward_hook(lambda part, inputs, output: dtypes.add(output.dtype))
    fit(module, [SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)], precision="bf16-mixed")
    trial = create_trial(str(tensors))
    assert dtypes == {torch.bfloat16}
    logits = trial.tensor("head_output_0")
    assert logits.steps(mode=modes.TRAIN) == list(range(0, 2 * STEPS, 10))
    assert logits.value(0, mode=modes.TRAIN).dtype == np.float32
    assert logits.reduction_value(0, "mean", mode=modes.TRAIN).dtype == np.float32
    assert trial.tensor(LOSS).value(0, mode=modes.TRAIN).dtype == np.float32


def test_under_ddp_steps_and_names_are_the_same(tmp_path: Path) -> None:
    seen = Seen()
    fit(classifier(), [seen, SmdebugHook(tmp_path / "out", train_every=10, eval_every=1)], strategy="ddp")
    trial = create_trial(str(tmp_path / "out"))
    assert losses(trial, modes.TRAIN) == every(seen.losses["TRAIN"], 10)
    assert losses(trial, modes.EVAL) == every(seen.losses["EVAL"], 1)
    assert steps(trial, f"gradient/{WEIGHT}", modes.TRAIN) == list(range(0, 2 * STEPS, 10))
