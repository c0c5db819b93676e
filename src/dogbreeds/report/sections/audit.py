"""The photos that the audit suspects: wrong labels, near-duplicates, outliers of a class."""

from pathlib import Path

from dogbreeds.overrides import override
from dogbreeds.report.run import Run
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.photos import thumbnail_below
from dogbreeds.run_directory import AUDIT

_MAX_PHOTOS = 12


def audit(run: Run, *, live: bool) -> Section:
    """Returns the section of suspected photos; a run that has not ended has none."""
    title = "Photos with a doubt"
    if live or run.suspicions is None:
        missing = "single runs and the best trial of a search have an audit at their end"
        return Section("audit", title, missing=missing)
    kinds = ("label", "duplicate", "outlier")
    found = {kind: [one for one in run.suspicions if one.suspicion == kind] for kind in kinds}
    groups = {kind: suspected[:_MAX_PHOTOS] for kind, suspected in found.items()}
    paths = [one.path for shown in groups.values() for one in shown] + [one.suggested for one in groups["duplicate"]]
    root = Path(run.config["data"]["dir"])
    content = {
        "groups": groups,
        "counts": {kind: len(suspected) for kind, suspected in found.items()},
        "across": int(run.record.facts.audit.get("copies_across_splits", 0)),
        "images": {path: thumbnail_below(root, path) for path in paths},
        "splits": {one.path: one.split for one in run.predictions},
        "root": root,
        "leave_out": override("data.exclude", run.directory / AUDIT),
    }
    return Section("audit", title, content)
