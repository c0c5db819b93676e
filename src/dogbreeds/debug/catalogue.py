"""All rules by their names, those of SageMaker Debugger where it has the rule, and what they say of a record."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from dogbreeds.debug.record import Record
from dogbreeds.debug.rules import classes, hardware, losses, photos, results, steps, tensors
from dogbreeds.debug.rules.verdict import ERROR, ISSUES, Rule, Verdict
from dogbreeds.errors import ConfigError, did_you_mean
from dogbreeds.files import json_text, write_text
from dogbreeds.run_directory import RULES as RULES_FILE
from dogbreeds.schema import DebuggerConfig

log = logging.getLogger(__name__)

#: Each dataclass with a method `judge` in the modules of debug/rules is a rule.
RULES: dict[str, type[Any]] = {
    name: kind
    for module in (losses, tensors, classes, hardware, steps, results, photos)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and is_dataclass(kind) and hasattr(kind, "judge")
}


@dataclass(frozen=True)
class Judgement:
    """What a rule says."""

    name: str
    rule: Rule
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": (type(self.rule).__doc__ or "").splitlines()[0],
            "count": len(self.verdict.steps),
            **vars(self.verdict),
            "parameters": dict(vars(self.rule)),
        }


def rules_of(configured: Mapping[str, Any]) -> dict[str, Rule]:
    """Returns the rules of conf/debugger, by name.

    A rule's parameters are those that differ from the documented ones; None switches it off.
    """
    return {name: _rule(name, parameters) for name, parameters in configured.items() if parameters is not None}


def rule_problems(configured: Mapping[str, Any]) -> Iterator[str]:
    for name, parameters in configured.items():
        try:
            _rule(name, {} if parameters is None else parameters)
        except ConfigError as error:
            yield str(error)


def _rule(name: str, parameters: Any) -> Rule:
    place = f"debugger.rules.{name}"
    if name not in RULES:
        raise ConfigError(_unknown(place, name, RULES, "rule"))
    if parameters == {}:
        return cast(Rule, RULES[name]())
    try:
        return cast(Rule, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RULES[name]), parameters)))
    except ConfigKeyError as error:
        parameters = [field.name for field in fields(RULES[name])]
        raise ConfigError(_unknown(f"{place}.{error.key}", str(error.key), parameters, "parameter")) from error
    except ValidationError as error:
        raise ConfigError(f"{place}.{error.key}: {str(error).splitlines()[0]}.") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place}={parameters}: must be its parameters, {{}} for the defaults, or null.") from error


def _unknown(place: str, name: str, names: Iterable[str], what: str) -> str:
    return f"{place}: there is no such {what}. {did_you_mean(name, names, most=1)}There are: {', '.join(names)}."


def watching_rules(debugger: DebuggerConfig) -> dict[str, Rule]:
    return rules_of(debugger.rules) if debugger.record else {}


def judge(rules: Mapping[str, Rule], record: Record) -> list[Judgement]:
    """Returns what each rule says of a record; one that fails has the status Error and does not stop the others."""
    found = []
    for name, rule in rules.items():
        try:
            said = rule.judge(record)
        except Exception as error:
            log.exception("rule %s", name)
            said = Verdict(ERROR, message=f"{type(error).__name__}: {error}")
        found.append(Judgement(name, rule, said))
    return found


def issues(judgements: Sequence[Judgement]) -> list[Judgement]:
    return [one for one in judgements if one.verdict.status == ISSUES]


def verdict_of(judgements: Sequence[Judgement]) -> str:
    if not judgements:
        return "none: debugger=off"
    names = ", ".join(one.name for one in issues(judgements))
    found = f"issues found by {names}: see the report" if names else "no issues found"
    return f"{found} ({len(judgements)} rules)"


def save_judgements(run_dir: Path, judgements: Sequence[Judgement]) -> None:
    write_text(run_dir / RULES_FILE, json_text({"rules": [one.to_json() for one in judgements]}) + "\n")
