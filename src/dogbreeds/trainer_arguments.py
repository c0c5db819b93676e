"""What conf/trainer may hand on to Lightning's Trainer, checked before photos are read."""

import inspect
import os
from collections.abc import Mapping

from dogbreeds.files import yaml_beside
from dogbreeds.schema import TrainConfig

# Arguments of the Trainer that other settings stand for.
_OWN: Mapping[str, str] = yaml_beside(__file__, "trainer_arguments.yaml")
# What a run, Lightning and torch read as numbers.
_NUMBERS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED", "SLURM_STEP_NUM_TASKS")


def trainer_problems(config: TrainConfig) -> list[str]:
    """Returns what is wrong with conf/trainer on any machine, one line per setting or variable."""
    trainer = config.trainer
    problems = environment_problems(os.environ)
    if not trainer.arguments and trainer.devices in ("auto", "1"):
        # As conf/trainer has it: no need to import Lightning, which a launch does without.
        return problems

    import pytorch_lightning as pl

    if trainer.arguments.get("profiler") and config.profiler.steps:
        problems.append("trainer.profiler: needs profiler.steps=false, whose timeline is a profiler too.")
    names = [name for name in inspect.signature(pl.Trainer).parameters if name not in _OWN]
    for name in trainer.arguments:
        if name in _OWN:
            problems.append(f"trainer.{name}: use {_OWN[name]} instead.")
        elif name not in names:
            problems.append(f"trainer.{name}: the Trainer has no such argument. It has {', '.join(sorted(names))}.")
    if devices_of(trainer.devices) is None:
        said = "must be a number above 0, auto, or numbers of devices such as '0,1'."
        problems.append(f"trainer.devices={trainer.devices}: {said}")
    return problems


def environment_problems(variables: Mapping[str, str]) -> list[str]:
    """Returns which variables of launchers and schedulers, perhaps of another command, a run would fail by."""
    given = {name: variables.get(name) or "0" for name in _NUMBERS}
    if wrong := [name for name, value in given.items() if not value.isdecimal()]:
        return [f"{name}={given[name]} in the environment: must be a number. Type unset {name}." for name in wrong]
    number = {name: int(value) for name, value in given.items()}
    several = {
        "LOCAL_RANK": number["LOCAL_RANK"] >= max(number["WORLD_SIZE"], 1),
        "SLURM_STEP_NUM_TASKS": number["SLURM_STEP_NUM_TASKS"] > 1,
    }
    said = "in the environment: a run begins as one process, and starts others itself (trainer=ddp)."
    here = [name for name, found in several.items() if found]
    return [f"{name}={given[name]} {said} Type unset {name}, or srun --ntasks=1." for name in here]


def devices_of(text: str) -> int | str | list[int] | None:
    """Returns devices as the Trainer takes them: a number, `auto`, or a list of numbers; None is a mistake."""
    if text == "auto":
        return text
    numbers = text.strip("[]").split(",")
    if not all(number.strip().isdecimal() for number in numbers) and text != "-1":
        return None
    found = [int(number) for number in numbers]
    return found if len(found) > 1 or text.startswith("[") else (found[0] or None)
