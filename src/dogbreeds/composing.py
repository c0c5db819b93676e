"""Lets Hydra compose conf/: what it is told of that beforehand, and what its errors mean to the person."""

import functools
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
from yaml import MarkedYAMLError

from dogbreeds.command_schemas import SCHEMAS
from dogbreeds.directories import run_directory
from dogbreeds.errors import ConfigError
from dogbreeds.explanations import explained
from dogbreeds.help_page import described
from dogbreeds.installation import conf_directory
from dogbreeds.overrides import name_of
from dogbreeds.schema import TrainerConfig

#: Of Hydra, of OmegaConf, and of a YAML file in a directory of the person's own.
REFUSALS = (CompactHydraException, OmegaConfBaseException, MarkedYAMLError)


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
    except REFUSALS as error:
        raise ConfigError(explain(error, conf_directory() / f"{name}.yaml", arguments)) from error
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)


def explain(error: Exception, primary: Path, arguments: Sequence[str]) -> str:
    """Returns Hydra's message without its advice for programmers, with names that exist and types that fit."""
    schema, given = SCHEMAS.get(primary.stem), {name_of(one): one.partition("=")[2] for one in arguments}
    # A primary config without a schema names its settings itself.
    own = {str(one): "" for one in OmegaConf.load(primary) if one not in ("defaults", "hydra")}
    return explained(error, schema, described(primary.stem) if schema else own, given.get)
