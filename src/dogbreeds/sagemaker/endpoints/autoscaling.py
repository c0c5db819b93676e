"""The autoscaling of an endpoint, restored when an update fails."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.endpoints.account import Endpoints
from dogbreeds.sagemaker.requests.endpoint import scaled_resource
from dogbreeds.sagemaker.session import Account

log = logging.getLogger(__name__)

_OF_TARGET = ("MinCapacity", "MaxCapacity", "SuspendedState")
_OF_POLICY = (
    "PolicyName",
    "PolicyType",
    "TargetTrackingScalingPolicyConfiguration",
    "StepScalingPolicyConfiguration",
)


@dataclass(frozen=True)
class Scaling:
    """The autoscaling of an endpoint: the members of its scalable target, and of each policy."""

    endpoint: str
    target: dict[str, Any]
    policies: list[dict[str, Any]]

    def restore(self, account: Account) -> None:
        """Registers it again. A refusal is logged, so that the error that led here reaches the person."""
        resource = scaled_resource(self.endpoint)
        try:
            with aws_errors("restore autoscaling"):
                account.scaling.register_scalable_target(**resource, **self.target)
                for policy in self.policies:
                    account.scaling.put_scaling_policy(**resource, **policy)
        except UserError as error:
            log.error("autoscaling was stopped: %s", error)
        else:
            log.info("autoscaling is restored")


def stopped_scaling(endpoints: Endpoints, endpoint: str) -> Scaling | None:
    """Stops the autoscaling of an endpoint, and returns what it was; None where there was none."""
    target = endpoints.scaling_target(endpoint)
    if target is None:
        return None
    with aws_errors(f"get the autoscaling of {endpoint}"):
        paginator = endpoints.account.scaling.get_paginator("describe_scaling_policies")
        pages = paginator.paginate(**scaled_resource(endpoint))
        policies = [_members(one, _OF_POLICY) for page in pages for one in page["ScalingPolicies"]]
    endpoints.stop_scaling(endpoint)
    return Scaling(endpoint, _members(target, _OF_TARGET), policies)


def _members(described: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: described[name] for name in names if name in described}
