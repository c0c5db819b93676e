"""What conf/trainer may hand on to Lightning's Trainer, checked before photos are read."""

from __future__ import annotations

import inspect

from dogbreeds.schema import TrainConfig

# Arguments of the Trainer that other settings stand for.
_OWN = {
    "accelerator": "trainer.accelerator",
    "devices": "trainer.devices",
    "strategy": "trainer.strategy",
    "precision": "trainer.precision",
    "detect_anomaly": "trainer.detect_anomaly",
    "max_epochs": "epochs",
    "logger": "logger=csv or another of conf/logger",
    "callbacks": "callbacks.<name>._target_",
    "default_root_dir": "hydra.run.dir",
    "enable_checkpointing": "resume, which every run can do",
    "use_distributed_sampler": "trainer.strategy",
    "check_val_every_n_epoch": "epochs, which all end with a validation",
    "limit_val_batches": "epochs, which all end with a validation",
    "overfit_batches": "debug=one_batch",
}


def trainer_problems(config: TrainConfig) -> list[str]:
    """Returns what is wrong with conf/trainer on any machine, one line per setting."""
    trainer = config.trainer
    if not trainer.arguments and trainer.devices in ("auto", "1"):
        # As conf/trainer has it: no need to import Lightning, which a launch does without.
        return []

    import pytorch_lightning as pl

    problems = []
    if trainer.arguments.get("profiler") and config.profiler.steps:
        problems.append("trainer.profiler: needs profiler.steps=false, whose timeline is a profiler too.")
    names = [name for name in inspect.signature(pl.Trainer).parameters if name not in _OWN]
    for name in trainer.arguments:
        if name in _OWN:
            problems.append(f"trainer.{name}: use {_OWN[name]} instead.")
        elif name not in names:
            problems.append(f"trainer.{name}: the Trainer has no such argument. It has {', '.join(sorted(names))}.")
    if devices_of(trainer.devices) is None:
        problems.append(
            f"trainer.devices={trainer.devices}: must be a number above 0, auto, or numbers of devices such as '0,1'."
        )
    return problems


def devices_of(text: str) -> int | str | list[int] | None:
    """Returns devices as the Trainer takes them: a number, `auto`, or a list of numbers; None is a mistake."""
    if text == "auto":
        return text
    numbers = text.strip("[]").split(",")
    if not all(number.strip().isdecimal() for number in numbers) and text != "-1":
        return None
    found = [int(number) for number in numbers]
    return found if len(found) > 1 or text.startswith("[") else (found[0] or None)
