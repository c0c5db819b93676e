"""The photos that the audit suspects: wrong labels, near-duplicates, outliers of a class."""

from dataclasses import dataclass
from pathlib import Path

from dogbreeds.overrides import override
from dogbreeds.report.formats import percent
from dogbreeds.report.run import Run, Suspicion
from dogbreeds.report.sections import Section
from dogbreeds.report.sections.photos import thumbnail_below
from dogbreeds.run_directory import AUDIT

_MAX_PHOTOS = 12


@dataclass(frozen=True)
class Suspected:
    """A photo of audit.csv in words, with thumbnails as data URIs, or empty; `other` is the photo that stays."""

    path: str
    title: str
    said: str
    image: str
    other: str = ""
    other_image: str = ""


def audit(run: Run, *, live: bool) -> Section:
    """Returns the section of suspected photos; a run that has not ended has none."""
    title = "Photos with a doubt"
    if live or run.suspicions is None:
        missing = "single runs and the best trial of a search have an audit at their end"
        return Section("audit", title, missing=missing)
    by_kind: dict[str, list[Suspicion]] = {"label": [], "duplicate": [], "outlier": []}
    for one in run.suspicions:
        by_kind[one.suspicion].append(one)
    shown = _Shown(run)
    groups = {kind: [shown.of(one) for one in found[:_MAX_PHOTOS]] for kind, found in by_kind.items()}
    content = {
        "groups": groups,
        "counts": {kind: len(found) for kind, found in by_kind.items()},
        "across": int(run.record.facts.audit.get("copies_across_splits", 0)),
        "any": any(one.image for found in groups.values() for one in found),
        "root": shown.root,
        "leave_out": override("data.exclude", run.directory / AUDIT),
    }
    return Section("audit", title, content)


class _Shown:
    """Suspicions of a run as its page shows them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.root = Path(run.config["data"]["dir"])
        self._splits = {one.path: one.split for one in run.predictions}

    def of(self, one: Suspicion) -> Suspected:
        breed, image = self._run.name(one.label), thumbnail_below(self.root, one.path)
        place = f"{breed}, {one.split}"
        if one.suspicion == "label":
            said = f"{self._run.name(one.suggested)}?"
            return Suspected(one.path, said, f"is {breed} {percent(one.score)}", image)
        if one.suspicion == "outlier":
            return Suspected(one.path, place, f"{one.score:.1f} deviations from its breed", image)
        split = self._splits.get(one.suggested, "train")
        said = f"copy of a {split} photo" + (": leakage" if split != one.split else "")
        return Suspected(one.path, place, said, image, one.suggested, thumbnail_below(self.root, one.suggested))
