"""Lets Hydra compose conf/: what it is told of that beforehand, and what its errors mean to the person."""

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_origin, get_type_hints

import platformdirs
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.config import type_problem
from dogbreeds.directories import run_directory
from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.installation import conf_directory
from dogbreeds.overrides import name_of
from dogbreeds.schema import TrainerConfig, key_types

_UNKNOWN_KEY = re.compile(r"(?:[Kk]ey|override) '(?P<key>[^']+)'(?: (?:is )?not in|\. No match in)")
_SECTIONS = ("defaults", "hydra")


@functools.cache
def register(*names: str) -> None:
    """Makes the resolvers of conf/ and the schemas of some commands, or of all, known to Hydra, which copies them."""
    for name in names or SCHEMAS:
        if name in SCHEMAS:
            ConfigStore.instance().store(name=f"{name}_schema", node=_open(SCHEMAS[name]))
    setup_globals()
    OmegaConf.register_new_resolver("run_directory", run_directory, use_cache=True, replace=True)
    user_cache = functools.partial(platformdirs.user_cache_dir, "dogbreeds")
    OmegaConf.register_new_resolver("user_cache", user_cache, replace=True)
    OmegaConf.register_new_resolver("absolute", lambda path: str(Path(path).absolute()), replace=True)


def _open(schema: type) -> DictConfig:
    """Returns a schema whose tables, and the section trainer, take further keys, typed without a plus sign."""
    node: DictConfig = OmegaConf.structured(schema)
    for name, kind in get_type_hints(schema).items():
        if is_dataclass(kind) or get_origin(kind) is dict:
            node[name] = _open(kind) if isinstance(kind, type) and is_dataclass(kind) else {}
            if not is_dataclass(kind) or kind is TrainerConfig:
                OmegaConf.set_struct(node[name], False)
    return node


@contextmanager
def initialized(name: str, arguments: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Lets `hydra.compose` read conf/, in place of a Hydra that is running already, and yields its loader."""
    register("train", name)
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_directory()), job_name=name, version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, conf_directory() / f"{name}.yaml", arguments)) from error
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)


def explain(error: Exception, primary: Path, arguments: Sequence[str]) -> str:
    """Returns Hydra's message without its advice for programmers, with names that exist and types that fit."""
    causes: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = str(current).strip()
        if text and not any(text in known or known in text for known in causes):
            causes.append(text)
        current = current.__cause__
    whole = "\n".join(causes)
    message = "\n".join(line for line in whole.splitlines() if line.strip() and "object_type=" not in line)
    message = message.split("\nConfig search path:")[0]
    schema = SCHEMAS.get(primary.stem)
    if unknown := _UNKNOWN_KEY.search(message):
        full = re.search(r"full_key: (\S+)", message)
        key = full[1] if full else unknown["key"]
        # A primary config without a schema names its settings itself.
        names = (
            list(key_types(schema)) if schema else [str(one) for one in OmegaConf.load(primary) if one not in _SECTIONS]
        )
        return f"Unknown setting '{key}'. {did_you_mean(key, names)}Settings are: {', '.join(names)}."
    given = {name_of(argument): argument.partition("=")[2] for argument in arguments}
    problem = type_problem(whole, schema, lambda name: given.get(name, "")) if schema else None
    return problem or message
