"""The autoscaling of an endpoint as it is, to be put back where an update does not come about."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.sagemaker.endpoints.account import Account, asking
from dogbreeds.sagemaker.requests.endpoint import scaled_resource

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
    """What an endpoint is registered with.

    Attributes:
        endpoint: The endpoint's name.
        target: The members of the scalable target.
        policies: The members of each policy.
    """

    endpoint: str
    target: dict[str, Any]
    policies: list[dict[str, Any]]

    def put_back(self, account: Account) -> None:
        """Registers it again. A refusal is logged: the error that led here is what the person has to read."""
        resource = scaled_resource(self.endpoint)
        try:
            with asking("autoscaling"):
                account.scaling.register_scalable_target(**resource, **self.target)
                for policy in self.policies:
                    account.scaling.put_scaling_policy(**resource, **policy)
        except UserError as error:
            log.error("autoscaling has ended and could not be put back: %s", error)
        else:
            log.info("autoscaling is as it was before")


def ended_scaling(account: Account, endpoint: str) -> Scaling | None:
    """Ends the autoscaling of an endpoint, and returns what it was; None where there was none.

    Raises:
        UserError: The service refuses it.
    """
    target = account.target(endpoint)
    if target is None:
        return None
    resource = scaled_resource(endpoint)
    with asking("autoscaling"):
        pages = account.scaling.get_paginator("describe_scaling_policies").paginate(**resource)
        policies = [_members(one, _OF_POLICY) for page in pages for one in page["ScalingPolicies"]]
    account.stop_scaling(endpoint)
    return Scaling(endpoint, _members(target, _OF_TARGET), policies)


def _members(described: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: described[name] for name in names if name in described}
