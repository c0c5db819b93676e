"""search.yaml: describes a search, so that it can be resumed and is not mixed up with another one."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from dogbreeds.config import MOVABLE, named_by, read_yaml, write_yaml
from dogbreeds.data.kept import kept
from dogbreeds.directories import refuse_search
from dogbreeds.errors import ConfigError
from dogbreeds.hpo.plan import Compose, Plan
from dogbreeds.installation import require
from dogbreeds.overrides import flat, literal, name_of, sets
from dogbreeds.run_directory import BEST, SEARCH_CONFIG, TUNING_JOB

_TRIALS = "hpo.trials"


def planned(arguments: Sequence[str], composed: DictConfig, loader: ConfigLoader) -> tuple[Plan, Path]:
    """Returns what a command line searches for, and its multirun directory."""
    require("-m", "search", "optuna", "plotly", "scipy", "greenlet")
    if loggers := [one for one in arguments if sets(one, "logger")]:
        raise ConfigError(f"{' '.join(loggers)}: trials have no loggers. Train the best one with it, by best_of.")

    def compose(overrides: Sequence[str]) -> DictConfig:
        return loader.load_sweep_config(composed, list(overrides))

    if composed.resume is not None:
        directory = Path(composed.resume)
        return resumed(directory, arguments, compose, loader), directory
    plan = Plan(arguments, compose, loader)
    directory = Path(composed.hydra.sweep.dir)
    if (directory / TUNING_JOB).is_file() and not (directory / BEST).is_file():
        # The same command goes on with the job that it began.
        saved = read_yaml(directory / SEARCH_CONFIG) if (directory / SEARCH_CONFIG).is_file() else {}
        if saved.get("overrides", plan.arguments) == plan.arguments:
            return plan, directory
    refuse_search(directory)
    if directory.is_dir() and any(re.fullmatch(r"\d+", path.name) for path in directory.iterdir()):
        said = "holds numbered runs that a search would overwrite: choose another hydra.sweep.dir."
        raise ConfigError(f"{directory} {said}")
    return plan, directory


def save_plan(plan: Plan, directory: Path) -> None:
    """Writes search.yaml, from which `resumed` makes the plan again."""
    content = {"overrides": plan.arguments, "trials": plan.settings.trials, **_identity(plan)}
    write_yaml(directory / SEARCH_CONFIG, content)


def resumed(directory: Path, arguments: Sequence[str], compose: Compose, loader: ConfigLoader | None) -> Plan:
    """Makes the plan of a search again, with more trials if `arguments` raise `hpo.trials`."""
    path = directory / SEARCH_CONFIG
    if not path.is_file():
        lacks = f"it has no {SEARCH_CONFIG}, so it is not a search" if directory.exists() else "no such directory"
        raise ConfigError(f"resume={directory}: {lacks}.")
    if others := [one for one in arguments if name_of(one) not in ("resume", _TRIALS, *MOVABLE)]:
        raise ConfigError(
            f"resume={directory} continues that search as it was, so {' '.join(others)} cannot apply. "
            f"Leave it out, or start a new search with it; only hpo.trials can be raised, and {', '.join(MOVABLE)} "
            "changed."
        )
    saved = read_yaml(path)
    if not {"overrides", "trials"} <= saved.keys():
        raise ConfigError(f"{path} is damaged, or something else: it has no overrides.")
    longer = [one for one in arguments if name_of(one) == _TRIALS]
    typed = [one for one in arguments if name_of(one) != "resume"]
    again = {name_of(one) for one in typed}
    others = [one for one in saved["overrides"] if name_of(one) not in again]
    plan = Plan([*others, *typed], compose, loader, kept(named_by(directory), directory))
    if longer and (plan.settings.trials or 0) < (saved["trials"] or 0):
        raise ConfigError(f"{longer[-1]}: the search has {saved['trials']} trials; hpo.trials can only be raised.")
    now = _identity(plan)
    before, after = (flat({section: one.get(section) for section in now}) for one in (saved, now))
    # Named without the section of search.yaml.
    names = {name: name.partition(".")[2] for name in {**after, **before} if after.get(name) != before.get(name)}
    if changed := [name for name in names.values() if name not in MOVABLE]:
        said = f"resume={directory}: conf/ has changed since that search was started ({', '.join(changed)})."
        raise ConfigError(f"{said} Undo that, or start a new search.")
    return plan


def _identity(plan: Plan) -> dict[str, Any]:
    """Everything that makes this search different from another one, as YAML would give it back."""
    first = asdict(plan.corners[0])
    del first["run_dir"]
    # A resumed search reads its copies.
    first["data"] |= plan.named
    space = {name: {"kind": type(one).__name__, **asdict(one)} for name, one in plan.space.dimensions.items()}
    settings = asdict(plan.settings)
    del settings["trials"], settings["space"]
    identity = literal({"first_corner": first, "space": space, "hpo": settings})
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(identity), resolve=True))
