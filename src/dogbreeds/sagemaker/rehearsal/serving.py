"""Serving: models, endpoint configurations, endpoints, invocations and autoscaling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.sagemaker.rehearsal.autoscaling import Autoscaling
from dogbreeds.sagemaker.rehearsal.containers import MakeContainer
from dogbreeds.sagemaker.rehearsal.endpoints import Endpoints
from dogbreeds.sagemaker.rehearsal.faults import invalid
from dogbreeds.sagemaker.rehearsal.http import Call, Operation
from dogbreeds.sagemaker.rehearsal.inference_container import InferenceContainer
from dogbreeds.sagemaker.rehearsal.invocations import Invocations
from dogbreeds.sagemaker.rehearsal.models import Models, NamedResources
from dogbreeds.sagemaker.rehearsal.premises import Context


class Serving:
    """The part of a rehearsal that endpoints are in."""

    def __init__(self, directory: Path, context: Context, container: MakeContainer | None) -> None:
        models, configs, endpoints = (
            NamedResources(directory / folder, kind, context.changed)
            for folder, kind in (
                ("models", "Model"),
                ("endpoint_configs", "EndpointConfig"),
                ("endpoints", "Endpoint"),
            )
        )
        autoscaling = Autoscaling(directory / "autoscaling.json", context.changed)
        self._endpoints = Endpoints(
            endpoints, configs, models, context, container or InferenceContainer, autoscaling.scales
        )
        self._invocations = Invocations(self._endpoints, context.objects)
        self.invoke = self._invocations.invoke
        self._models = Models(models, configs, context.objects, self._endpoints.uses)
        self._tagged = (models, configs, endpoints)
        #: What Application Auto Scaling can be asked.
        self.scaling = autoscaling.operations(self._endpoints.why_not_scaled)

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {**self._models.operations, **self._endpoints.operations, "ListTags": self._list_tags}

    def _list_tags(self, call: Call) -> Mapping[str, Any]:
        for records in self._tagged:
            if (record := records.with_arn(call.body["ResourceArn"])) is not None:
                return {"Tags": record.tags}
        raise invalid("Requested resource not found.")

    def close(self) -> None:
        """Waits for what was asked asynchronously, and ends all containers."""
        self._invocations.close()
        self._endpoints.close()
