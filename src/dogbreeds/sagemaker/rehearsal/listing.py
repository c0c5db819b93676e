"""Pages of summaries, as the List operations give them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

# What AWS gives at once unless it is told.
_PAGE = 10


def page(
    request: Mapping[str, Any], answer: str, summaries: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, Any]:
    """Filters by name, sorts by time and cuts; returns the answer, with the token for the next page if there is one.

    Args:
        request: What was asked.
        answer: The name of the summaries in the answer.
        summaries: All of that kind.
        kind: Such as `TrainingJob` or `Endpoint`.
    """
    part = request.get("NameContains", "").lower()
    chosen = [each for each in summaries if part in each[f"{kind}Name"].lower()]
    chosen.sort(key=itemgetter("CreationTime"), reverse=request.get("SortOrder", "Ascending") == "Descending")
    start = int(request.get("NextToken", "0"))
    end = start + request.get("MaxResults", _PAGE)
    return {answer: copy.deepcopy(chosen[start:end]), **({"NextToken": str(end)} if end < len(chosen) else {})}
