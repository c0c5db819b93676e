"""The operations on endpoints: creating, in service, updating, deleting."""

import copy
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_sagemaker.calls import Call, JobFailure, Members, Operation, invalid
from local_sagemaker.context import Context
from local_sagemaker.records import Record
from local_sagemaker.serving.autoscaling import is_scaled
from local_sagemaker.serving.models import NamedResources
from local_sagemaker.serving.served_variant import MakeContainer, ServedVariant
from local_sagemaker.training.status import MAX_REASON

_LOG = logging.getLogger(__name__)
_RESOURCE = re.compile(r"endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)")
_LISTED = ("LastModifiedTime", "EndpointStatus")
_NOT_DELETED = ("Creating", "Updating", "Deleting")


class Endpoints:
    """All endpoints."""

    def __init__(
        self,
        endpoints: NamedResources,
        configs: NamedResources,
        models: NamedResources,
        context: Context,
        make: MakeContainer,
    ) -> None:
        self._endpoints, self._configs, self._models = endpoints, configs, models
        self._context, self._make = context, make
        self._served: dict[str, ServedVariant] = {}
        self._coming: dict[str, ServedVariant] = {}
        self._threads: list[threading.Thread] = []

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateEndpoint": self._create,
            "DescribeEndpoint": self._endpoints.describe,
            "ListEndpoints": lambda call: self._endpoints.listed(call, "Endpoints", _LISTED),
            "UpdateEndpoint": self._update,
            "DeleteEndpoint": self._delete,
        }

    def uses(self, config: str) -> bool:
        """Says whether an endpoint has, or gets, a configuration."""
        with self._context.changed:
            found = [record.description for record in self._endpoints]
            pending = [one["PendingDeploymentSummary"] for one in found if "PendingDeploymentSummary" in one]
            return any(one["EndpointConfigName"] == config for one in (*found, *pending))

    def find(self, name: str) -> tuple[dict[str, Any], ServedVariant] | None:
        """Returns the description of an endpoint that answers, and what does; None where there is none."""
        with self._context.changed:
            if name not in self._endpoints:
                return None
            description = self._endpoints[name].description
            if description["EndpointStatus"] not in ("InService", "Updating"):
                return None
            return copy.deepcopy(description), self._served[name]

    def captured(self, config: str) -> Members:
        return dict(self._configs[config].description["DataCaptureConfig"])

    def why_not_scaled(self, resource: str) -> str | None:
        """Says why a resource of Application Auto Scaling cannot be scaled; None where it can."""
        found = _RESOURCE.fullmatch(resource)
        if found is None or found["endpoint"] not in self._endpoints:
            return f"SageMaker endpoint not found: {resource}"
        description = self._endpoints[found["endpoint"]].description
        scaled = [one["VariantName"] for one in description["ProductionVariants"] if "CurrentInstanceCount" in one]
        if found["variant"] not in scaled:
            return f"{resource} has no instances to be scaled."
        if description["EndpointStatus"] != "InService":
            return f"{resource} must be in service, and is {description['EndpointStatus']}."
        return None

    def close(self) -> None:
        with self._context.changed:
            served, threads = [*self._coming.values(), *self._served.values()], list(self._threads)
        for one in served:
            one.close()
        for thread in threads:
            thread.join()

    def _create(self, call: Call) -> Members:
        name, config = call.body["EndpointName"], call.body["EndpointConfigName"]
        with self._context.changed:
            chosen = self._configs[config].description
            served = self._serving(name, config)
            members = {"ProductionVariants": _described_variants(chosen), **_capture_of(chosen)}
            record = self._endpoints.create(call, {"EndpointStatus": "Creating", **members})
            self._bring_up(record, served, config)
        return {"EndpointArn": record.description["EndpointArn"]}

    def _update(self, call: Call) -> Members:
        name, config = call.body["EndpointName"], call.body["EndpointConfigName"]
        with self._context.changed:
            record = self._changeable(name)
            chosen = self._configs[config].description
            if config == record.description["EndpointConfigName"]:
                raise invalid(f'The endpoint has the configuration "{config}" already.')
            self._refuse_scaled(record, chosen, call.region)
            served = self._serving(name, config)
            record.description["EndpointStatus"] = "Updating"
            record.description["PendingDeploymentSummary"] = {"EndpointConfigName": config}
            record.description.pop("FailureReason", None)
            self._endpoints.touch(record)
            self._bring_up(record, served, config, retained=call.body.get("RetainAllVariantProperties", False))
        return {"EndpointArn": record.description["EndpointArn"]}

    def _delete(self, call: Call) -> Members:
        name = call.body["EndpointName"]
        with self._context.changed:
            record = self._endpoints[name]
            if record.description["EndpointStatus"] in _NOT_DELETED:
                raise invalid(f'Cannot update in-progress endpoint "{name}".')
            record.description["EndpointStatus"] = "Deleting"
            self._endpoints.touch(record)
            served = self._served.pop(name, None)
            self._begin(lambda: self._end(name, served))
        return {}

    def _end(self, name: str, served: ServedVariant | None) -> None:
        if served is not None:
            served.close()
        self._endpoints.remove(name)

    def _bring_up(self, record: Record, served: ServedVariant, config: str, *, retained: bool = False) -> None:
        """Starts what is to answer in a thread of its own; what answered before does until then."""
        name = record.description["EndpointName"]
        self._coming[name] = served
        self._begin(lambda: self._come_up(record, served, config, retained=retained))

    def _come_up(self, record: Record, served: ServedVariant, config: str, *, retained: bool) -> None:
        name, reason, former = record.description["EndpointName"], None, None
        try:
            served.start()
        except JobFailure as failure:
            reason = str(failure)
        except Exception as error:
            _LOG.exception("The service failed to bring up %s", name)
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        with self._context.changed:
            description = record.description
            updating = description.pop("PendingDeploymentSummary", None) is not None
            del self._coming[name]
            if reason is None:
                former = self._served.pop(name, None)
                self._served[name] = served
                chosen, old = self._configs[config].description, description["ProductionVariants"]
                for member in ("DataCaptureConfig", "AsyncInferenceConfig"):
                    description.pop(member, None)
                description |= {
                    "EndpointConfigName": config,
                    "ProductionVariants": _described_variants(chosen, old if retained else ()),
                    **_capture_of(chosen),
                }
            else:
                description["FailureReason"] = reason[:MAX_REASON]
            description["EndpointStatus"] = "Failed" if reason is not None and not updating else "InService"
            self._endpoints.touch(record)
        if reason is not None:
            served.close()
        elif former is not None:
            former.close()

    def _begin(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="endpoint")
        self._threads.append(thread)
        thread.start()

    def _serving(self, name: str, config: str) -> ServedVariant:
        variant = self._configs[config].description["ProductionVariants"][0]
        model = self._models[variant["ModelName"]].description
        return ServedVariant(name, variant, model, self._context, self._make)

    def _changeable(self, name: str) -> Record:
        record = self._endpoints[name]
        status = record.description["EndpointStatus"]
        if status == "Failed":
            raise invalid(f'Cannot update endpoint "{name}", which has failed: delete it.')
        if status != "InService":
            raise invalid(f'Cannot update in-progress endpoint "{name}".')
        return record

    def _refuse_scaled(self, record: Record, chosen: Members, region: str) -> None:
        name = record.description["EndpointName"]
        now = self._configs[record.description["EndpointConfigName"]].description["ProductionVariants"][0]
        new = chosen["ProductionVariants"][0]
        same = (now["VariantName"], now.get("InstanceType")) == (new["VariantName"], new.get("InstanceType"))
        if not same and is_scaled(region, f"endpoint/{name}/variant/{now['VariantName']}"):
            why = "must be deregistered as scalable targets with AWS Auto Scaling before they can be removed or have"
            raise invalid(f'The variant(s) "{now["VariantName"]}" {why} their instance type updated.')


def _described_variants(config: Members, former: Sequence[Members] = ()) -> list[dict[str, Any]]:
    variant = config["ProductionVariants"][0]
    found: dict[str, Any] = {"VariantName": variant["VariantName"]}
    if "ServerlessConfig" in variant:
        found |= {f"{when}ServerlessConfig": variant["ServerlessConfig"] for when in ("Current", "Desired")}
    else:
        kept = [one.get("DesiredInstanceCount") for one in former if one["VariantName"] == variant["VariantName"]]
        instances = next(iter(kept), None) or variant["InitialInstanceCount"]
        found |= {"CurrentInstanceCount": instances, "DesiredInstanceCount": instances}
    return [found]


def _capture_of(config: Members) -> dict[str, Any]:
    """Returns those members of a configuration that are members of the endpoint too."""
    found = {name: config[name] for name in ("AsyncInferenceConfig",) if name in config}
    if (capture := config.get("DataCaptureConfig")) is not None:
        found["DataCaptureConfig"] = {
            "EnableCapture": capture.get("EnableCapture", True),
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
        }
    return found
