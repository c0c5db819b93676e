"""All rules by the service's names, and what they say of a record."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.classes import ClassImbalance, Confusion, StalledTrainingRule
from dogbreeds.debug.rules.hardware import (
    BatchSize,
    CPUBottleneck,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    OverallSystemUsage,
)
from dogbreeds.debug.rules.losses import LossNotDecreasing, Overfit, Overtraining
from dogbreeds.debug.rules.results import ClassNeverPredicted, HeadBelowReference, SearchedRangeEdge, SplitLeakage
from dogbreeds.debug.rules.steps import DataWaits, MaxInitializationTime, StepOutlier
from dogbreeds.debug.rules.tensors import (
    AllZero,
    DeadRelu,
    ExplodingTensor,
    PoorWeightInitialization,
    UnchangedTensor,
    VanishingGradient,
    WeightUpdateRatio,
)
from dogbreeds.debug.rules.verdict import ERROR, ISSUES, Rule, Verdict
from dogbreeds.errors import did_you_mean
from dogbreeds.files import write_text
from dogbreeds.run_directory import RULES as RULES_FILE
from dogbreeds.schema import DebuggerConfig

log = logging.getLogger(__name__)

RULES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        LossNotDecreasing,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        VanishingGradient,
        ExplodingTensor,
        DeadRelu,
        UnchangedTensor,
        WeightUpdateRatio,
        AllZero,
        ClassImbalance,
        Confusion,
        StalledTrainingRule,
        LowGPUUtilization,
        CPUBottleneck,
        IOBottleneck,
        GPUMemoryIncrease,
        BatchSize,
        LoadBalancing,
        MaxInitializationTime,
        StepOutlier,
        OverallSystemUsage,
        DataWaits,
        HeadBelowReference,
        SplitLeakage,
        ClassNeverPredicted,
        SearchedRangeEdge,
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


def rule_problems(configured: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with the rules of conf/debugger, a line for each: names that do not exist."""
    problems = []
    for name, parameters in configured.items():
        place = f"debugger.rules.{name}"
        if name not in RULES:
            problems.append(_unknown(place, name, list(RULES), "rule"))
        elif not isinstance(parameters, Mapping | None):
            problems.append(f"{place}={parameters}: must be its parameters, {{}} for the documented ones, or null.")
        else:
            known = {field.name: field.default for field in fields(RULES[name])}
            for other, value in (parameters or {}).items():
                if other not in known:
                    problems.append(_unknown(f"{place}.{other}", other, list(known), "parameter"))
                elif not _is_like(value, known[other]):
                    problems.append(f"{place}.{other}={value}: must be like {known[other]}.")
    return problems


def _is_like(value: Any, default: Any) -> bool:
    """Says whether a value can stand for a parameter's default: numbers for numbers, true or false for such."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    return isinstance(value, str | None) if default is None else isinstance(value, int | float)


def rules_of(configured: Mapping[str, Any]) -> dict[str, Rule]:
    """Returns the rules of conf/debugger, by name.

    Args:
        configured: For each rule the parameters that differ from the documented ones; None switches it off.
    """
    return {name: RULES[name](**parameters) for name, parameters in configured.items() if parameters is not None}


def _unknown(place: str, name: str, names: list[str], what: str) -> str:
    return f"{place}: there is no such {what}. {did_you_mean(name, names, most=1)}There are: {', '.join(names)}."


def watching_rules(debugger: DebuggerConfig) -> dict[str, Rule]:
    """Returns the rules that watch a run; none where nothing is recorded."""
    return rules_of(debugger.rules) if debugger.record else {}


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


def issues(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Returns those that found something."""
    return [one for one in judgements if one.verdict.status == ISSUES]


def verdict_of(judgements: Sequence[Judgement]) -> str:
    """Returns in a line what the rules found together."""
    if not judgements:
        return "none: debugger=off"
    names = ", ".join(one.name for one in issues(judgements))
    found = f"issues found by {names}: see the report" if names else "no issues found"
    return f"{found} ({len(judgements)} rules)"


def save_judgements(run_dir: Path, judgements: Sequence[Judgement]) -> None:
    """Writes rules.json into a run directory."""
    content = {"rules": [one.to_json() for one in judgements]}
    write_text(run_dir / RULES_FILE, json.dumps(content, indent=1) + "\n")
