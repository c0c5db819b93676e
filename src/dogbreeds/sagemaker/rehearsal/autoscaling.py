"""Application Auto Scaling of endpoints: registrations are kept, and nothing scales."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dogbreeds.files import write_text
from dogbreeds.sagemaker.rehearsal.faults import ApiError, invalid
from dogbreeds.sagemaker.rehearsal.http import Call, Operation

#: Says of a resource such as `endpoint/dogs/variant/AllTraffic` why it cannot be scaled; None where it can.
WhyNot = Callable[[str], str | None]


class Autoscaling:
    """All scalable targets and their policies, by resource; answers have what was asked for."""

    def __init__(self, path: Path, changed: threading.Condition) -> None:
        self._path, self._changed = path, changed
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"targets": {}, "policies": {}}
        self._targets: dict[str, dict[str, Any]] = kept["targets"]
        self._policies: dict[str, dict[str, dict[str, Any]]] = kept["policies"]

    def operations(self, why_not: WhyNot) -> Mapping[str, Operation]:
        return {
            "RegisterScalableTarget": lambda call: self._register(call, why_not),
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put_policy,
            "DescribeScalingPolicies": self._describe_policies,
        }

    def scales(self, resource: str) -> bool:
        with self._changed:
            return resource in self._targets

    def _register(self, call: Call, why_not: WhyNot) -> Mapping[str, Any]:
        resource = call.body["ResourceId"]
        with self._changed:
            if (why := why_not(resource)) is not None:
                raise invalid(why)
            self._targets[resource] = {**self._targets.get(resource, {}), **call.body}
            self._save()
        return {}

    def _deregister(self, call: Call) -> Mapping[str, Any]:
        resource = call.body["ResourceId"]
        with self._changed:
            self._target(resource)
            del self._targets[resource]
            self._policies.pop(resource, None)
            self._save()
        return {}

    def _put_policy(self, call: Call) -> Mapping[str, Any]:
        resource, name = call.body["ResourceId"], call.body["PolicyName"]
        with self._changed:
            self._target(resource)
            self._policies.setdefault(resource, {})[name] = dict(call.body)
            self._save()
        return {}

    def _describe_targets(self, call: Call) -> Mapping[str, Any]:
        wanted = call.body.get("ResourceIds", list(self._targets))
        with self._changed:
            return {"ScalableTargets": [self._targets[name] for name in wanted if name in self._targets]}

    def _describe_policies(self, call: Call) -> Mapping[str, Any]:
        with self._changed:
            wanted = [call.body["ResourceId"]] if "ResourceId" in call.body else list(self._policies)
            return {"ScalingPolicies": [one for name in wanted for one in self._policies.get(name, {}).values()]}

    def _target(self, resource: str) -> None:
        if resource not in self._targets:
            why = f"No scalable target found for service namespace: sagemaker, resource ID: {resource}"
            raise ApiError("ObjectNotFoundException", why)

    def _save(self) -> None:
        write_text(self._path, json.dumps({"targets": self._targets, "policies": self._policies}, indent=1))
