"""All rules by the service's names, and what they say of a record."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dogbreeds.atomic import write_text
from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.classes import ClassImbalance, Confusion, StalledTrainingRule
from dogbreeds.debug.rules.losses import LossNotDecreasing, Overfit, Overtraining
from dogbreeds.debug.rules.tensors import (
    AllZero,
    ExplodingTensor,
    PoorWeightInitialization,
    UnchangedTensor,
    VanishingGradient,
    WeightUpdateRatio,
)
from dogbreeds.debug.rules.verdict import ERROR, ISSUES, Rule, Verdict
from dogbreeds.errors import ConfigError, did_you_mean

log = logging.getLogger(__name__)

RULES_FILE = "rules.json"
RULES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        LossNotDecreasing,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        VanishingGradient,
        ExplodingTensor,
        UnchangedTensor,
        WeightUpdateRatio,
        AllZero,
        ClassImbalance,
        Confusion,
        StalledTrainingRule,
    )
}


@dataclass(frozen=True)
class Judgement:
    """A rule's name with what it says."""

    name: str
    rule: Rule
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Returns its entry in rules.json."""
        found = self.verdict
        return {
            "name": self.name,
            "description": (type(self.rule).__doc__ or "").splitlines()[0],
            "status": found.status,
            "count": len(found.steps),
            "message": found.message,
            "advice": found.advice,
            "steps": list(found.steps),
            "parameters": dict(vars(self.rule)),
        }


def rules_of(configured: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Rule]:
    """Returns the rules of conf/debugger, by name.

    Args:
        configured: For each rule the parameters that differ from the documented ones; None switches it off.

    Raises:
        ConfigError: There is no such rule, or it has no such parameter; the message has those that there are.
    """
    problems, rules = [], {}
    for name, parameters in configured.items():
        if name not in RULES:
            problems.append(_unknown(f"debugger.rules.{name}", name, list(RULES), "rule"))
        elif parameters is not None:
            known = [field.name for field in fields(RULES[name])]
            others = [other for other in parameters if other not in known]
            problems += [_unknown(f"debugger.rules.{name}.{other}", other, known, "parameter") for other in others]
            if not others:
                rules[name] = RULES[name](**parameters)
    if problems:
        raise ConfigError("\n".join(problems))
    return rules


def _unknown(place: str, name: str, names: list[str], what: str) -> str:
    return f"{place}: there is no such {what}. {did_you_mean(name, names, most=1)}There are: {', '.join(names)}."


def judge(rules: Mapping[str, Rule], record: Record) -> list[Judgement]:
    """Returns what each rule says of a record; one that breaks says that, and the others speak all the same."""
    found = []
    for name, rule in rules.items():
        try:
            said = rule.judge(record)
        except Exception as error:
            log.exception("rule %s", name)
            said = Verdict(ERROR, message=f"{type(error).__name__}: {error}")
        found.append(Judgement(name, rule, said))
    return found


def issues(judgements: list[Judgement]) -> list[Judgement]:
    """Returns those that found something."""
    return [one for one in judgements if one.verdict.status == ISSUES]


def save_judgements(path: Path, judgements: list[Judgement]) -> None:
    """Writes rules.json, whole or not at all."""
    content = {"rules": [one.to_json() for one in judgements]}
    write_text(path, json.dumps(content, indent=1) + "\n")
