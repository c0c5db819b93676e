"""Waits for an endpoint, and says what its container said where it does not come up."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.endpoints.account import Account, asking

log = logging.getLogger(__name__)

_GROUP = "/aws/sagemaker/Endpoints/"
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_LAST_LINES = 20
_FIRST_LOOKS = 6


def follow(account: Account, endpoint: str, config: str, former: Mapping[str, Any] | None) -> dict[str, Any]:
    """Waits until nothing happens to an endpoint any more, and tells each status.

    Args:
        account: Where it is.
        endpoint: Its name.
        config: The configuration that it is to have; that an update has begun may not be seen at once.
        former: What the service said of it before it was updated; None for a new one.

    Returns:
        What the service says of it.

    Raises:
        UserError: It is gone, or cannot be asked about.
    """
    told, began, unseen = "", time.monotonic(), _FIRST_LOOKS
    while True:
        described = account.describe(endpoint)
        status = described["EndpointStatus"]
        # An update may fail between two looks; the reason of an older failure says nothing of this one.
        failed = "FailureReason" in described and _failure_of(described) != _failure_of(former or {})
        begun = status != "InService" or described.get("EndpointConfigName") == config or failed
        unseen = 0 if begun else unseen - 1
        if status != told:
            log.info("%s  %s  after %.0f s", endpoint, status, time.monotonic() - began)
            told = status
        if status not in _BUSY and unseen <= 0:
            return described
        time.sleep(account.between_looks)


def _failure_of(described: Mapping[str, Any]) -> tuple[Any, Any]:
    return described.get("FailureReason"), described.get("LastModifiedTime")


def await_end(account: Account, endpoint: str) -> None:
    """Waits until an endpoint that is being deleted is gone.

    Raises:
        UserError: It stays, or cannot be asked about.
    """
    while (described := account.find(endpoint)) is not None:
        if described["EndpointStatus"] != "Deleting":
            raise UserError(f"{endpoint} was not deleted: it is {described['EndpointStatus']}.")
        time.sleep(account.between_looks)


def last_lines(account: Account, endpoint: str) -> list[str]:
    """Returns the last lines that the newest container of an endpoint wrote; none where it wrote nothing."""
    from botocore.exceptions import ClientError

    group = _GROUP + endpoint
    with asking("the log"):
        try:
            streams = account.logs.describe_log_streams(
                logGroupName=group, orderBy="LastEventTime", descending=True, limit=1
            )["logStreams"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return []
        if not streams:
            return []
        events = account.logs.get_log_events(
            logGroupName=group, logStreamName=streams[0]["logStreamName"], limit=_LAST_LINES
        )["events"]
    return [event["message"].rstrip() for event in events]


def failure(account: Account, described: Mapping[str, Any], lines: list[str], *, kept: bool) -> UserError:
    """Returns what tells the person that an endpoint did not come up.

    Args:
        account: Where it is.
        described: What the service says of it.
        lines: The last ones of its log.
        kept: What answered before still does.
    """
    endpoint, reason = described["EndpointName"], described.get("FailureReason", "AWS gives no reason.")
    said = (
        "\n".join(["the last lines of its log:", *(f"  {line}" for line in lines)]) if lines else "its log is empty."
    )
    if kept:
        state = f"{endpoint} has not been updated; it answers as before."
    else:
        state = f"{endpoint} has failed. It answers nothing; remove it: {account.command('delete', endpoint)}"
    return UserError(f"{reason}\n{said}\n{state}")
