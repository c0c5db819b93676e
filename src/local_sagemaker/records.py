"""The records of jobs and endpoints."""

import copy
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any

from local_sagemaker.calls import ACCOUNT, ApiError, Call, Members, invalid

# Summaries that AWS gives at once unless it is told.
_PAGE = 10
#: Statuses of jobs that have ended.
ENDED = ("Completed", "Failed", "Stopped")


@dataclass
class Record:
    """A job: what Describe answers, with times in seconds since 1970, and by metric, time and value of all that came.

    `tuned` are the values that were chosen for a child of a tuning job.
    """

    description: dict[str, Any]
    tags: list[dict[str, str]] = field(default_factory=list)
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    tuned: dict[str, str] = field(default_factory=dict)


class Records:
    """The jobs of one kind, such as `TrainingJob` or `Endpoint`, by name.

    `changed` guards the records of all kinds, and is notified of each change.
    """

    _order = "Ascending"

    def __init__(self, kind: str, changed: threading.Condition) -> None:
        self.kind, self._changed = kind, changed
        self._records: dict[str, Record] = {}

    def __iter__(self) -> Iterator[Record]:
        with self._changed:
            return iter(list(self._records.values()))

    def __getitem__(self, name: str) -> Record:
        with self._changed:
            if name not in self._records:
                raise self.unknown(name)
            return self._records[name]

    def unknown(self, name: str) -> ApiError:
        return invalid("Requested resource not found.")

    def taken(self, name: str) -> ApiError:
        arn = self[name].description[f"{self.kind}Arn"] if name in self._records else name
        return ApiError("ResourceInUse", f"Job name must be unique within an account and region: {arn}")

    def describe(self, call: Call) -> dict[str, Any]:
        with self._changed:
            return copy.deepcopy(self[call.body[f"{self.kind}Name"]].description)

    def listed(self, call: Call, answer: str, more: tuple[str, ...] = ()) -> Members:
        """Answers the List operation; `more` are members of a summary that a description or its config may have."""
        members = (f"{self.kind}Name", f"{self.kind}Arn", "CreationTime", *more)
        with self._changed:
            described = [one.description.get(f"{self.kind}Config", {}) | one.description for one in self]
            summaries = [{name: one[name] for name in members if name in one} for one in described]
            return page({"SortOrder": self._order, **call.body}, answer, summaries, self.kind)

    def with_arn(self, arn: str) -> Record | None:
        return next((record for record in self if record.description[f"{self.kind}Arn"] == arn), None)

    def create(self, call: Call, members: Members, tuned: Mapping[str, str] | None = None) -> Record:
        """Takes a new one: what was asked, some members more, its ARN and times."""
        name, now = call.body[f"{self.kind}Name"], time.time()
        # Such as `hyper-parameter-tuning-job`.
        resource = re.sub("(?<=[a-z])(?=[A-Z])", "-", self.kind).lower()
        arn = f"arn:{partition(call.region)}:sagemaker:{call.region}:{ACCOUNT}:{resource}/{name.lower()}"
        asked = {key: value for key, value in call.body.items() if key != "Tags"}
        times = {"CreationTime": now, "LastModifiedTime": now}
        made = {**asked, **members, f"{self.kind}Arn": arn, **times}
        record = Record(made, list(call.body.get("Tags", [])), tuned=dict(tuned or {}))
        with self._changed:
            # On AWS names are unique whatever the case of their letters.
            if name.lower() in (known.lower() for known in self._records):
                raise self.taken(name)
            self._records[name] = record
            self.touch(record)
        return record

    def remove(self, name: str) -> None:
        with self._changed:
            del self._records[name]
            self._changed.notify_all()

    def __contains__(self, name: str) -> bool:
        with self._changed:
            return name in self._records

    def touch(self, record: Record) -> None:
        """Lets everybody who waits know that a record is another one now."""
        with self._changed:
            record.description["LastModifiedTime"] = time.time()
            self._changed.notify_all()

    def ended(self, record: Record) -> bool:
        return record.description[f"{self.kind}Status"] in ENDED


@cache
def partition(region: str) -> str:
    """Returns the part of AWS that a region is in, such as `aws-cn`."""
    import botocore.session

    return str(botocore.session.get_session().get_partition_for_region(region))


def page(request: Members, answer: str, summaries: Sequence[Members], kind: str) -> dict[str, Any]:
    """Filters the summaries of a kind, such as `Endpoint`, by name and status, sorts them by time and cuts.

    Returns them as the member `answer`, with the token for the next page if there is one.
    """
    part, status = request.get("NameContains", "").lower(), request.get("StatusEquals")
    chosen = [each for each in summaries if part in each[f"{kind}Name"].lower()]
    chosen = [each for each in chosen if status in (None, each.get(f"{kind}Status"))]
    chosen.sort(key=itemgetter("CreationTime"), reverse=request.get("SortOrder", "Ascending") == "Descending")
    start = int(request.get("NextToken", "0"))
    end = start + request.get("MaxResults", _PAGE)
    return {answer: copy.deepcopy(chosen[start:end]), **({"NextToken": str(end)} if end < len(chosen) else {})}
