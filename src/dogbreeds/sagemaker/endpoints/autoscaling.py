"""The autoscaling of an endpoint, this project's and what others added to it, set up again after an update.

What a deployment has yet to set up is written down before anything is stopped, so that the next command for the
endpoint does it where this one is ended.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import platformdirs

from dogbreeds.errors import UserError
from dogbreeds.files import read_json, reading, write_text
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.endpoints.account import Endpoints
from dogbreeds.sagemaker.requests.endpoint import POLICY, scaled_resource
from dogbreeds.sagemaker.requests.job import Request
from dogbreeds.sagemaker.session import Account

log = logging.getLogger(__name__)

_ALARM_ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")
# Of a target, and always that of AWS: sending it would take the right to pass it on.
_ROLE = "RoleARN"


@dataclass(frozen=True)
class Scaling:
    """The autoscaling of an endpoint, as the requests that set it up.

    The ARNs of `policies` are new whenever a target is registered anew. `alarms` are those of CloudWatch that start a
    step policy; AWS takes the action from them with the policy.
    """

    target: Request
    policies: Mapping[str, Request]
    schedule: list[Request]
    alarms: list[Request]

    def updated(self, ours: Mapping[str, Request]) -> Self | None:
        """Returns it with this project's own requests, by operation, in place of the former; None if none is left."""
        others = {arn: one for arn, one in self.policies.items() if one["PolicyName"] != POLICY}
        if ours:
            target = self.target | ours["RegisterScalableTarget"]
            return replace(self, target=target, policies={**others, POLICY: ours["PutScalingPolicy"]})
        return replace(self, policies=others) if others or self.schedule or not self.policies else None

    def set_up(self, account: Account) -> None:
        """Registers all of it; alarms get the new ARNs of the policies that they start."""
        with aws_errors("set up autoscaling"):
            account.scaling.register_scalable_target(**self.target)
            put = account.scaling.put_scaling_policy
            renewed = {arn: put(**policy)["PolicyARN"] for arn, policy in self.policies.items()}
            for alarm in self.alarms:
                actions = {name: [renewed.get(one, one) for one in alarm.get(name, [])] for name in _ALARM_ACTIONS}
                account.client("cloudwatch").put_metric_alarm(**alarm | actions)
            for action in self.schedule:
                account.scaling.put_scheduled_action(**action)
        log.info("autoscaling from %s to %s instances", self.target["MinCapacity"], self.target["MaxCapacity"])


def plan_scaling(account: Account, name: str, config: str, former: Scaling | None, wanted: Scaling | None) -> Path:
    """Writes down what an endpoint gets: `wanted` with the configuration `config`, `former` with any other.

    Returns the file, which is absent where there is nothing to set up.
    """
    place = _place(account, name)
    if former is None and wanted is None:
        place.unlink(missing_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        found = {"config": config, "former": former and asdict(former), "wanted": wanted and asdict(wanted)}
        write_text(place, json.dumps(found, default=str))
    return place


def settle_scaling(account: Account, described: Mapping[str, Any]) -> None:
    """Sets up what was written down for an endpoint, if it is in service."""
    place = _place(account, described["EndpointName"])
    if described["EndpointStatus"] == "InService" and place.is_file():
        with reading(place):
            planned = read_json(place)
            found = planned["wanted" if described.get("EndpointConfigName") == planned["config"] else "former"]
            scaling = found and Scaling(**found)
        if scaling is not None:
            scaling.set_up(account)
        place.unlink()


def restore_scaling(account: Account, described: Mapping[str, Any]) -> None:
    """Does the same. A refusal is logged, so that the error that led here reaches the person."""
    try:
        settle_scaling(account, described)
    except UserError as error:
        log.error("autoscaling is stopped, and the next deploy or action=status tries again: %s", error)


def _place(account: Account, name: str) -> Path:
    own = platformdirs.user_data_dir("dogbreeds")
    place = Path(account.settings.rehearsal_dir if account.settings.rehearsal else own)
    return place / "autoscaling" / f"{account.identity['Account']}-{account.region}-{name}.json"


def scaling_of(endpoints: Endpoints, endpoint: str) -> Scaling | None:
    """Returns the autoscaling of an endpoint; None where it does not scale."""
    target, account, resource = endpoints.scaling_target(endpoint), endpoints.account, scaled_resource(endpoint)
    if target is None:
        return None

    def listed(client: Any, operation: str, member: str, **request: Any) -> list[dict[str, Any]]:
        return [one for page in client.get_paginator(operation).paginate(**request) for one in page[member]]

    with aws_errors(f"get the autoscaling of {endpoint}"):
        policies = listed(account.scaling, "describe_scaling_policies", "ScalingPolicies", **resource)
        schedule = listed(account.scaling, "describe_scheduled_actions", "ScheduledActions", **resource)
        alarms = {
            alarm["AlarmName"]: alarm
            for arn in (one["PolicyARN"] for one in policies if one["PolicyType"] == "StepScaling")
            for alarm in listed(account.client("cloudwatch"), "describe_alarms", "MetricAlarms", ActionPrefix=arn)
        }
    put = {one["PolicyARN"]: _request(account.scaling, "PutScalingPolicy", one) for one in policies}
    actions = [_request(account.scaling, "PutScheduledAction", one) for one in schedule]
    watched = [_request(account.client("cloudwatch"), "PutMetricAlarm", one) for one in alarms.values()]
    return Scaling(_request(account.scaling, "RegisterScalableTarget", target), put, actions, watched)


def _request(client: Any, operation: str, described: Mapping[str, Any]) -> Request:
    """Returns those members of a description that its request takes."""
    members = client.meta.service_model.operation_model(operation).input_shape.members
    return {name: value for name, value in described.items() if name in members and name != _ROLE}
