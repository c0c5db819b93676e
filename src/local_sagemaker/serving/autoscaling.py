"""Application Auto Scaling of endpoints: moto keeps targets and policies, and nothing scales."""

from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.calls import ACCOUNT, ApiError, Call, Members, Operation, invalid

_DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def checks(why_not: Callable[[str], str | None]) -> Mapping[str, Operation]:
    """Returns what looks at requests before moto does; `why_not` says why a resource cannot be scaled."""

    def register(call: Call) -> Members:
        if (why := why_not(call.body["ResourceId"])) is not None:
            raise invalid(why)
        return {}

    return {"RegisterScalableTarget": register, "PutScalingPolicy": _put_policy, "DeregisterScalableTarget": _forget}


def is_scaled(region: str, resource: str) -> bool:
    """Says whether a resource such as `endpoint/dogs/variant/AllTraffic` is a scalable target."""
    return bool(_moto(region).describe_scalable_targets("sagemaker", [resource], _DIMENSION))


def _put_policy(call: Call) -> Members:
    resource = call.body["ResourceId"]
    if not is_scaled(call.region, resource):
        why = f"No scalable target found for service namespace: sagemaker, resource ID: {resource}"
        raise ApiError("ObjectNotFoundException", why)
    return {}


def _forget(call: Call) -> Members:
    """Removes what goes with a target, and moto would keep: its schedule, its policies, and their alarms' actions."""
    from moto.cloudwatch.models import cloudwatch_backends

    moto, resource = _moto(call.region), call.body["ResourceId"]
    _, policies = moto.describe_scaling_policies("sagemaker", resource, _DIMENSION, None, None)
    for policy in policies:
        moto.delete_scaling_policy(policy.policy_name, "sagemaker", resource, _DIMENSION)
        for alarm in cloudwatch_backends[ACCOUNT][call.region].get_alarms_by_action_prefix(policy.policy_arn):
            alarm.alarm_actions.remove(policy.policy_arn)
    for action in moto.describe_scheduled_actions(None, "sagemaker", resource, _DIMENSION):
        moto.delete_scheduled_action("sagemaker", action.scheduled_action_name, resource, _DIMENSION)
    return {}


def _moto(region: str) -> Any:
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    return applicationautoscaling_backends[ACCOUNT][region]
