"""Rules of our own over the audit of the photos: labels that other photos contradict, copies across splits."""

import math
from dataclasses import dataclass

from dogbreeds.debug.record import Record
from dogbreeds.debug.rules.verdict import Rule, Verdict, not_applicable
from dogbreeds.formats import counted

_NOT_AUDITED = "the photos were not audited"


@dataclass(frozen=True)
class SuspectLabels(Rule):
    """More training labels are improbable than a calibrated model of right labels would find so.

    Improbable is a label to which the exact linear head, trained without the photo, gives less than 0.5%. If all
    labels are right and its probabilities calibrated, as many are expected to be so as the sum of all its
    probabilities below 0.5%. The rule fires at `share` of the photos above that, with `standard_errors` (of a Poisson
    distribution) for chance.
    """

    share: float = 0.005
    standard_errors: float = 2.0

    def judge(self, record: Record) -> Verdict:
        audit, photos = record.facts.audit, record.facts.images.get("train", 0)
        if not audit:
            return not_applicable(_NOT_AUDITED)
        found, expected = audit["confident_labels"], audit["expected_labels"]
        if found <= expected + self.standard_errors * math.sqrt(expected) + self.share * photos:
            return self.verdict([])
        message = f"the other photos clearly contradict {found:.0f} of {photos:,} training labels,"
        message += f" where {expected:.0f} would be expected"
        return self.verdict([(0, message)])


@dataclass(frozen=True)
class NearDuplicates(Rule):
    """Photos of one split show the same picture as photos of another: re-encoded, cropped a little or mirrored.

    The scores are inflated. `share` of the validation and test photos are allowed; byte-identical copies are the
    matter of SplitLeakage.
    """

    share: float = 0.001

    def judge(self, record: Record) -> Verdict:
        audit, images = record.facts.audit, record.facts.images
        if not audit:
            return not_applicable(_NOT_AUDITED)
        copies, held_out = int(audit["copies_across_splits"]), images.get("valid", 0) + images.get("test", 0)
        if copies <= self.share * held_out:
            return self.verdict([])
        subject = counted(copies, "photo is", "photos are")
        return self.verdict([(0, f"{subject} nearly the same as another one in a later split")])
