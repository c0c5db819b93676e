"""Waits for an endpoint, and shows the log of its container where it does not come up."""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.aws_errors import MissingError, aws_errors
from dogbreeds.sagemaker.endpoints.account import Endpoints
from dogbreeds.sagemaker.following import Followed

log = logging.getLogger(__name__)

_LOG_GROUP = "/aws/sagemaker/Endpoints/"
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_LAST_LINES = 20


def wait(endpoints: Endpoints, endpoint: str, followed: Followed) -> dict[str, Any]:
    """Waits until an endpoint stops changing, logs each status, and returns its last description."""
    logged, began = "", time.monotonic()
    while True:
        described = followed.ask(lambda: endpoints.describe(endpoint))
        status = described["EndpointStatus"]
        if status != logged:
            log.info("%s  %s  after %.0f s", endpoint, status, time.monotonic() - began)
            logged = status
        if status not in _BUSY:
            return described
        time.sleep(endpoints.account.poll_seconds)


def wait_until_deleted(endpoints: Endpoints, endpoint: str) -> None:
    """Waits until an endpoint that is being deleted is gone."""
    while (described := endpoints.find(endpoint)) is not None:
        if described["EndpointStatus"] != "Deleting":
            raise UserError(f"{endpoint} was not deleted: it is {described['EndpointStatus']}.")
        time.sleep(endpoints.account.poll_seconds)


def failure(endpoints: Endpoints, described: Mapping[str, Any], *, deployed: str) -> UserError:
    """Returns the error for an endpoint that did not take the configuration `deployed`, with its container's log."""
    endpoint, reason = described["EndpointName"], described.get("FailureReason", "AWS gives no reason.")
    lines = _last_lines(endpoints, endpoint, deployed)
    said = "\n  ".join(["The last lines of its log:", *lines]) if lines else "Its log is empty."
    state = f"{endpoint} has failed and answers nothing. Delete it: {endpoints.command('delete', endpoint)}"
    if described["EndpointStatus"] == "InService":
        state = f"{endpoint} was not updated; the former model still answers."
    return UserError(f"{reason}\n{said}\n{state}")


def _last_lines(endpoints: Endpoints, endpoint: str, deployed: str) -> list[str]:
    """Returns the last log lines of the newest container of a deployment.

    The time of the last line does not tell it from the former deployment's: AWS updates that up to an hour late.
    """
    logs, group = endpoints.account.logs, _LOG_GROUP + endpoint
    with suppress(MissingError), aws_errors(f"read the log of {endpoint}"):
        config = endpoints.account.sagemaker.describe_endpoint_config(EndpointConfigName=deployed)
        began = config["CreationTime"].timestamp() * 1000
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        if streams := [one for page in pages for one in page["logStreams"] if one["creationTime"] >= began]:
            newest = max(streams, key=itemgetter("creationTime"))["logStreamName"]
            events = logs.get_log_events(logGroupName=group, logStreamName=newest, limit=_LAST_LINES)["events"]
            return [event["message"].rstrip() for event in events]
    return []
