"""What an audit found, as audit.csv, as what the rules know of it, and in words."""

from collections.abc import Iterator
from pathlib import Path

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.layout import SPLITS
from dogbreeds.files import lines_beside, write_csv
from dogbreeds.formats import counted
from dogbreeds.training.audit import Findings

_COLUMNS = ("path", "label", "split", "suspicion", "suggested", "score")


class Audit:
    """What was found in the photos of some breed folders.

    `facts` are what rules know of it: suspected labels that are confident, and how many would be expected (see
    `Suspects`), and photos of which a later split has a near-duplicate.
    """

    def __init__(self, folders: BreedFolders, findings: Findings) -> None:
        self._folders, self._findings = folders, findings
        # Each photo, and its split.
        self._photos = [(photo, split) for split in SPLITS for photo in folders.splits[split]]
        self._duplicates = self._redundant()
        confident, expected = findings.confidence.tolist()
        self.facts: dict[str, float] = {
            "confident_labels": confident,
            "expected_labels": expected,
            "copies_across_splits": len(self._across()),
        }

    def save(self, path: Path) -> None:
        """Writes audit.csv: suspected labels, duplicates, outliers, each with the worst on top."""
        write_csv(path, _COLUMNS, self._rows())

    def summary(self) -> str:
        """Returns a line that says how much was found."""
        train, made = len(self._folders.splits["train"]), {"facts": self.facts, "duplicates": self._duplicates}
        return lines_beside(__file__, "audit.txt", found=self._findings, train=train, counted=counted, **made)[0]

    def _redundant(self) -> dict[int, tuple[int, float]]:
        """The photos without which none is there twice, each with the likest one and how like they are.

        Of two photos that is the one in the earlier split, so that test photos stay; within a split the later one.
        """
        found: dict[int, tuple[int, float]] = {}
        for pair, likeness in zip(self._findings.copies.tolist(), self._findings.likenesses.tolist(), strict=True):
            # Positions go from split to split, and within one by name.
            same_split = self._photos[pair[0]][1] == self._photos[pair[1]][1]
            kept, copy = pair if same_split else reversed(pair)
            found.setdefault(copy, (kept, likeness))
        return found

    def _across(self) -> set[int]:
        """The photos of which a later split has a near-duplicate that is not the same byte for byte."""
        found = set()
        for position, other in self._findings.copies.tolist():
            (photo, split), (copy, copy_split) = self._photos[position], self._photos[other]
            if split != copy_split and photo.digest != copy.digest:
                found.add(position)
        return found

    def _rows(self) -> Iterator[dict[str, object]]:
        found, classes = self._findings, self._folders.classes
        labels = zip(found.suspects.tolist(), found.suggested.tolist(), found.probabilities.tolist(), strict=True)
        for photo, suggested, probability in labels:
            yield self._row(photo, "label", classes[suggested], probability)
        for photo, (kept, likeness) in self._duplicates.items():
            yield self._row(photo, "duplicate", self._photos[kept][0].name, likeness)
        for photo, oddness in zip(found.outliers.tolist(), found.oddnesses.tolist(), strict=True):
            yield self._row(photo, "outlier", "", oddness)

    def _row(self, position: int, suspicion: str, suggested: str, score: float) -> dict[str, object]:
        photo, split = self._photos[position]
        values = (photo.name, self._folders.classes[photo.label], split, suspicion, suggested, f"{score:.4g}")
        return dict(zip(_COLUMNS, values, strict=True))
