"""What the rules of the debugger found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dogbreeds.debug.rules.verdict import ERROR, ISSUES, NO_ISSUES, NOT_APPLICABLE
from dogbreeds.files import yaml_beside
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section

#: Statuses as people read them, the most urgent first.
STATUSES = {ISSUES: "issues found", ERROR: "error", NO_ISSUES: "no issues", NOT_APPLICABLE: "not applicable"}
_SEVERITY: list[str] = yaml_beside(__file__, "severity.yaml")
_MAX_STEPS = 12


def rules(run: Run) -> Section:
    if not run.rules:
        return Section("rules", "Rules", missing="no rule has judged the run")
    order = list(STATUSES)
    found = sorted(run.rules, key=lambda rule: (order.index(rule["status"]), _severity(rule)))
    totals = Counter(STATUSES[rule["status"]] for rule in found)
    content = {"rules": found, "words": STATUSES, "steps": steps, "totals": totals, "issues": ISSUES, "error": ERROR}
    return Section("rules", "Rules", content)


def worst(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return min(found, key=_severity)


def steps(fired: Sequence[int]) -> str:
    """Returns the first steps at which a rule fired, each once, as text."""
    different = list(dict.fromkeys(fired))
    text = ", ".join(str(step) for step in different[:_MAX_STEPS])
    more = len(different) - _MAX_STEPS
    return f"{text} and {more} more" if more > 0 else text


def _severity(rule: Mapping[str, Any]) -> int:
    name = rule["name"]
    return _SEVERITY.index(name) if name in _SEVERITY else len(_SEVERITY)
