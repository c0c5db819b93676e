"""The endpoints of an account: found by their tags, described, removed, waited for."""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from botocore import xform_name

from dogbreeds.errors import UserError
from dogbreeds.overrides import override
from dogbreeds.sagemaker.aws_errors import ForbiddenError, MissingError, aws_errors
from dogbreeds.sagemaker.following import Followed
from dogbreeds.sagemaker.launch.launcher import MAX_JOB_NAME
from dogbreeds.sagemaker.requests.endpoint import ENDPOINT_TAG, PACKAGE_TAG, scaled_resource
from dogbreeds.sagemaker.session import Account

log = logging.getLogger(__name__)

_LOG_GROUP = "/aws/sagemaker/Endpoints/"
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_LAST_LINES = 20
# What `launcher.job_name` appends to an endpoint's name to name its models and configurations.
_TAIL = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")
_MAX_START = MAX_JOB_NAME - len("-20261121-140359-ab12")

#: Asks the person at the keyboard a question, and returns the answer.
Ask = Callable[[str], str]


@dataclass(frozen=True)
class Endpoints:
    """All endpoints of an account, whose role and bucket are not needed.

    Every method raises a UserError where AWS refuses the request.
    """

    account: Account

    def command(self, action: str, endpoint: str | None = None) -> str:
        named = () if endpoint is None else (override("endpoint", endpoint),)
        return self.account.command("deploy", f"action={action}", *named)

    def find(self, endpoint: str) -> dict[str, Any] | None:
        """Returns AWS's description of an endpoint; None where there is none."""
        with suppress(MissingError):
            return self.describe(endpoint)
        return None

    def describe(self, endpoint: str) -> dict[str, Any]:
        """Returns AWS's description of an endpoint."""
        try:
            with aws_errors(f"get the status of {endpoint}"):
                return dict(self.account.sagemaker.describe_endpoint(EndpointName=endpoint))
        except MissingError as error:
            raise MissingError(f"No endpoint named {endpoint}. List endpoints: {self.command('list')}") from error

    def ours(self) -> Iterator[dict[str, Any]]:
        """Yields the summaries of the endpoints of this project."""
        with aws_errors("list the endpoints"):
            for page in self.account.sagemaker.get_paginator("list_endpoints").paginate():
                yield from (one for one in page["Endpoints"] if self._is_of(one["EndpointArn"], one["EndpointName"]))

    def refuse_foreign(self, described: Mapping[str, Any]) -> None:
        endpoint = described["EndpointName"]
        if not self._is_of(described["EndpointArn"], endpoint):
            raise UserError(
                f"{endpoint} is not an endpoint of this project: it has no tag {ENDPOINT_TAG}, or you may not read "
                f"it (sagemaker:ListTags). It is left alone; use another name. List yours: {self.command('list')}"
            )

    def parts(self, endpoint: str) -> tuple[list[str], list[str]]:
        """Returns the names of all endpoint configurations and of all models of an endpoint."""
        with aws_errors(f"list the configurations and models of {endpoint}"):
            return self._named("EndpointConfig", endpoint), self._named("Model", endpoint)

    def remove_parts(self, endpoint: str, kept: str | None) -> list[str]:
        """Removes configurations and models but for those of the name `kept`, and returns what was removed."""
        configs, models = ([name for name in names if name != kept] for names in self.parts(endpoint))
        # A deployment's are of the same name.
        for name in {*configs, *models}:
            self.discard(name)
        return [*(f"endpoint configuration {name}" for name in configs), *(f"model {name}" for name in models)]

    def discard(self, name: str) -> None:
        sagemaker = self.account.sagemaker
        with suppress(MissingError), aws_errors(f"remove {name}"):
            sagemaker.delete_endpoint_config(EndpointConfigName=name)
        with suppress(MissingError), aws_errors(f"remove {name}"):
            sagemaker.delete_model(ModelName=name)

    def scaling_target(self, endpoint: str) -> dict[str, Any] | None:
        """Returns the scalable target of an endpoint; None where it does not scale."""
        resource = scaled_resource(endpoint)
        with aws_errors(f"get the autoscaling of {endpoint}"):
            ids = [resource.pop("ResourceId")]
            found = self.account.scaling.describe_scalable_targets(**resource, ResourceIds=ids)
        return next(iter(found["ScalableTargets"]), None)

    def stop_scaling(self, endpoint: str) -> bool:
        """Ends the autoscaling of an endpoint; says whether there was any."""
        if self.scaling_target(endpoint) is None:
            return False
        with aws_errors(f"stop the autoscaling of {endpoint}"):
            self.account.scaling.deregister_scalable_target(**scaled_resource(endpoint))
        return True

    def variant(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the configured variant of an endpoint; empty where the configuration is gone."""
        name = described.get("EndpointConfigName")
        with suppress(MissingError), aws_errors(f"describe the endpoint configuration {name}"):
            if name is not None:
                found = self.account.sagemaker.describe_endpoint_config(EndpointConfigName=name)
                return dict(found["ProductionVariants"][0])
        return {}

    def package(self, variant: Mapping[str, Any]) -> str | None:
        """Returns what a variant serves, from the tag of its model; None where that is unknown."""
        name = variant.get("ModelName")
        with suppress(MissingError), aws_errors(f"describe the model {name}"):
            arn = self.account.sagemaker.describe_model(ModelName=name)["ModelArn"] if name else None
            tags = self.account.sagemaker.list_tags(ResourceArn=arn)["Tags"] if arn else []
            return next((tag["Value"] for tag in tags if tag["Key"] == PACKAGE_TAG), None)
        return None

    def _named(self, kind: str, endpoint: str) -> list[str]:
        start = endpoint[:_MAX_START]
        pages = self.account.sagemaker.get_paginator(xform_name(f"List{kind}s")).paginate(NameContains=start)
        found = {one[f"{kind}Name"]: one[f"{kind}Arn"] for page in pages for one in page[f"{kind}s"]}
        named = [name for name in found if _TAIL.fullmatch(name.removeprefix(start.rstrip("-")))]
        return [name for name in named if self._is_of(found[name], endpoint)]

    def _is_of(self, arn: str, endpoint: str) -> bool:
        # Some users may read only the tags of what is theirs.
        with suppress(ForbiddenError), aws_errors("read tags"):
            tags = self.account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
            return {"Key": ENDPOINT_TAG, "Value": endpoint} in tags
        return False


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


def wait_until_deleted(endpoints: Endpoints, endpoint: str, followed: Followed) -> None:
    """Waits until an endpoint that is being deleted is gone."""
    with suppress(MissingError):
        status = wait(endpoints, endpoint, followed)["EndpointStatus"]
        raise UserError(f"{endpoint} was not deleted: it is {status}. Try again: {followed.again}")


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
