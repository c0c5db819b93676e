"""Serving: models, endpoint configurations, endpoints, invocations and autoscaling."""

from collections.abc import Mapping

from local_sagemaker.calls import Call, Members, Operation, invalid
from local_sagemaker.context import Context
from local_sagemaker.serving import autoscaling
from local_sagemaker.serving.endpoints import Endpoints
from local_sagemaker.serving.invocations import Invocations
from local_sagemaker.serving.models import Models, NamedResources
from local_sagemaker.serving.ray_container import InferenceContainer
from local_sagemaker.serving.served_variant import MakeContainer


class Serving:
    """The part that endpoints are in."""

    def __init__(self, context: Context, container: MakeContainer | None) -> None:
        kinds = ("Model", "EndpointConfig", "Endpoint")
        models, configs, endpoints = (NamedResources(kind, context.changed) for kind in kinds)
        self._endpoints = Endpoints(endpoints, configs, models, context, container or InferenceContainer)
        self._invocations = Invocations(self._endpoints, context.objects)
        self.invoke = self._invocations.invoke
        self._models = Models(models, configs, context.objects, self._endpoints.uses)
        self._tagged = (models, configs, endpoints)
        #: What Application Auto Scaling can be asked.
        self.scaling = autoscaling.checks(self._endpoints.why_not_scaled)

    @property
    def operations(self) -> Mapping[str, Operation]:
        tags = {"ListTags": lambda call: {"Tags": self._tags(call)}, "AddTags": self._add_tags}
        return {**self._models.operations, **self._endpoints.operations, **tags}

    def _add_tags(self, call: Call) -> Members:
        tags, added = self._tags(call), {tag["Key"]: tag for tag in call.body["Tags"]}
        tags[:] = [*(tag for tag in tags if tag["Key"] not in added), *added.values()]
        return {"Tags": tags}

    def _tags(self, call: Call) -> list[dict[str, str]]:
        for records in self._tagged:
            if (record := records.with_arn(call.body["ResourceArn"])) is not None:
                return record.tags
        raise invalid("Requested resource not found.")

    def close(self) -> None:
        """Waits for what was asked asynchronously, and ends all containers."""
        self._invocations.close()
        self._endpoints.close()
