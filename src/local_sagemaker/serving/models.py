"""The operations on models and endpoint configurations."""

from collections.abc import Callable, Mapping

from local_sagemaker.admission import check_endpoint_config, check_model
from local_sagemaker.calls import ApiError, Call, Members, Operation, invalid
from local_sagemaker.records import Records
from local_sagemaker.s3.objects import Objects

_DISPLAYED = {"Model": "model", "EndpointConfig": "endpoint configuration", "Endpoint": "endpoint"}


class NamedResources(Records):
    """What serving is made of, one kind by name; the service words its refusals otherwise than those of jobs."""

    _order = "Descending"

    def unknown(self, name: str) -> ApiError:
        return invalid(f'Could not find {_DISPLAYED[self.kind]} "{name}".')

    def taken(self, name: str) -> ApiError:
        return invalid(f'Cannot create already existing {_DISPLAYED[self.kind]} "{name}".')


class Models:
    """All models and endpoint configurations."""

    def __init__(
        self, models: NamedResources, configs: NamedResources, objects: Objects, in_use: Callable[[str], bool]
    ) -> None:
        self._models, self._configs, self._objects, self._in_use = models, configs, objects, in_use

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {
            "CreateModel": self._create_model,
            "DescribeModel": self._models.describe,
            "ListModels": lambda call: self._models.listed(call, "Models"),
            "DeleteModel": self._delete_model,
            "CreateEndpointConfig": self._create_config,
            "DescribeEndpointConfig": self._configs.describe,
            "ListEndpointConfigs": lambda call: self._configs.listed(call, "EndpointConfigs"),
            "DeleteEndpointConfig": self._delete_config,
        }

    def _create_model(self, call: Call) -> Members:
        check_model(call.body, self._objects, call.region)
        isolated = {"EnableNetworkIsolation": call.body.get("EnableNetworkIsolation", False)}
        return {"ModelArn": self._models.create(call, isolated).description["ModelArn"]}

    def _create_config(self, call: Call) -> Members:
        wanted = call.body["ProductionVariants"][0]["ModelName"]
        model = self._models[wanted].description if wanted in self._models else None
        check_endpoint_config(call.body, model, self._objects)
        return {"EndpointConfigArn": self._configs.create(call, {}).description["EndpointConfigArn"]}

    def _delete_model(self, call: Call) -> Members:
        name = call.body["ModelName"]
        self._models[name]
        for config in self._configs:
            used = [variant["ModelName"] for variant in config.description["ProductionVariants"]]
            if name in used and self._in_use(config.description["EndpointConfigName"]):
                raise invalid(f'Cannot delete model "{name}": an endpoint serves it.')
        self._models.remove(name)
        return {}

    def _delete_config(self, call: Call) -> Members:
        name = call.body["EndpointConfigName"]
        self._configs[name]
        if self._in_use(name):
            raise invalid(f'Cannot delete endpoint configuration "{name}": an endpoint uses it.')
        self._configs.remove(name)
        return {}
