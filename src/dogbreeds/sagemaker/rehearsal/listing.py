"""Pages of summaries, as the List operations give them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dogbreeds.sagemaker.rehearsal.faults import invalid

# What AWS gives at once unless it is told.
_PAGE = 10


def page(
    request: Mapping[str, Any],
    answer: str,
    descriptions: Iterable[Mapping[str, Any]],
    kind: str,
    members: Sequence[str],
    sort_by: str,
    key: Callable[[Mapping[str, Any]], Any] | None = None,
) -> dict[str, Any]:
    """Filters, sorts and cuts; returns the answer, with the token for the next page, if there is one.

    Args:
        request: What was asked: NameContains, StatusEquals, CreationTimeAfter, ..., SortBy, SortOrder, MaxResults,
            NextToken.
        answer: The name of the summaries in it.
        descriptions: All of that kind.
        kind: Such as `TrainingJob` or `Endpoint`.
        members: What of a description belongs to the summary.
        sort_by: What to sort by unless it is said.
        key: What to sort by where no member of that name says it.
    """
    chosen = [each for each in descriptions if _is_chosen(request, each, kind)]
    by = request.get("SortBy", sort_by)
    names = {"Name": f"{kind}Name", "Status": f"{kind}Status", "CreationTime": "CreationTime"}
    chosen.sort(
        key=key if key is not None and by not in names else lambda each: (each[names[by]], each["CreationTime"]),
        reverse=request.get("SortOrder", "Ascending") == "Descending",
    )
    start = request.get("NextToken", "0")
    if not start.isdecimal():
        raise invalid("The NextToken is invalid.")
    end = int(start) + request.get("MaxResults", _PAGE)
    summaries = [{name: each[name] for name in members if name in each} for each in chosen[int(start) : end]]
    return {answer: copy.deepcopy(summaries), **({"NextToken": str(end)} if end < len(chosen) else {})}


def _is_chosen(request: Mapping[str, Any], each: Mapping[str, Any], kind: str) -> bool:
    status = each.get(f"{kind}Status")
    return (
        request.get("NameContains", "").lower() in each[f"{kind}Name"].lower()
        and request.get("StatusEquals", status) == status
        and request.get("CreationTimeAfter", 0) <= each["CreationTime"] <= request.get("CreationTimeBefore", 1e12)
        and request.get("LastModifiedTimeAfter", 0)
        <= each["LastModifiedTime"]
        <= request.get("LastModifiedTimeBefore", 1e12)
    )
