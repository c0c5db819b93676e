"""What an account has of endpoints: found again by their tags, described, removed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.sagemaker.launch.follow import advice
from dogbreeds.sagemaker.requests.endpoint import ENDPOINT_TAG, PACKAGE_TAG, scaled_resource
from dogbreeds.sagemaker.session import Clients, between_looks, message_of
from dogbreeds.schema import SagemakerConfig

# What `launching.job_name` puts behind an endpoint's name to name a model or a configuration of it.
_TAIL = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")
_FORBIDDEN = ("AccessDenied", "AccessDeniedException")
_UNKNOWN = ("ObjectNotFoundException", "ValidationException")


@dataclass(frozen=True)
class Account:
    """An account whose endpoints are looked at, with neither a role nor a bucket.

    Attributes:
        client: Makes clients.
        settings: Where it is.
    """

    client: Clients
    settings: SagemakerConfig

    @cached_property
    def sagemaker(self) -> Any:
        """Client of the SageMaker API."""
        return self.client("sagemaker")

    @cached_property
    def scaling(self) -> Any:
        """Client of Application Auto Scaling."""
        return self.client("application-autoscaling")

    @cached_property
    def logs(self) -> Any:
        """Client of CloudWatch Logs."""
        return self.client("logs")

    @property
    def between_looks(self) -> float:
        """Seconds from one look at an endpoint to the next."""
        return between_looks(self.settings)

    def command(self, action: str, endpoint: str) -> str:
        """Returns what to type for another look at an endpoint."""
        place = " sagemaker=rehearsal" if self.settings.rehearsal else ""
        return f"{command('deploy')} action={action} {override('endpoint', endpoint)}{place}"

    def find(self, endpoint: str) -> dict[str, Any] | None:
        """Returns what the service says of an endpoint; None where there is none.

        Raises:
            UserError: The service cannot be asked.
        """
        from botocore.exceptions import ClientError

        with asking("endpoints"):
            try:
                return dict(self.sagemaker.describe_endpoint(EndpointName=endpoint))
            except ClientError as error:
                if not is_missing(error):
                    raise
        return None

    def describe(self, endpoint: str) -> dict[str, Any]:
        """Does what `find` does.

        Raises:
            UserError: There is no such endpoint, or the service cannot be asked.
        """
        found = self.find(endpoint)
        if found is None:
            raise UserError(f"There is no endpoint {endpoint}. See which there are: {self._list()}")
        return found

    def ours(self) -> Iterator[dict[str, Any]]:
        """Yields the summaries of the endpoints that this project has made.

        Raises:
            UserError: The service cannot be asked.
        """
        with asking("endpoints"):
            for page in self.sagemaker.get_paginator("list_endpoints").paginate():
                yield from (one for one in page["Endpoints"] if self._is_of(one["EndpointArn"], one["EndpointName"]))

    def refuse_foreign(self, described: Mapping[str, Any]) -> None:
        """Refuses to touch an endpoint that this project has not made.

        Raises:
            UserError: It has not, or the service cannot be asked.
        """
        endpoint = described["EndpointName"]
        with asking("endpoints"):
            ours = self._is_of(described["EndpointArn"], endpoint)
        if not ours:
            raise UserError(
                f"{endpoint} was not made by this project, whose endpoints have the tag {ENDPOINT_TAG} that you may "
                f"read (sagemaker:ListTags). It is left alone: take another name. See which there are: {self._list()}"
            )

    def parts(self, endpoint: str) -> tuple[list[str], list[str]]:
        """Returns the names of all endpoint configurations and of all models that were made for an endpoint.

        Raises:
            UserError: The service cannot be asked.
        """
        with asking("endpoint configurations and models"):
            return self._named("EndpointConfig", endpoint), self._named("Model", endpoint)

    def remove_parts(self, endpoint: str, kept: str | None) -> list[str]:
        """Removes what was made for an endpoint, and returns what it was.

        Args:
            endpoint: Its name.
            kept: The configuration that is in use, and with it the model of that name.

        Raises:
            UserError: The service refuses it.
        """
        configs, models = ([name for name in names if name != kept] for names in self.parts(endpoint))
        with asking("endpoint configurations and models"):
            for name in configs:
                self.sagemaker.delete_endpoint_config(EndpointConfigName=name)
            for name in models:
                self.sagemaker.delete_model(ModelName=name)
        return [*(f"endpoint configuration {name}" for name in configs), *(f"model {name}" for name in models)]

    def discard(self, name: str) -> None:
        """Removes an endpoint configuration and a model of one name, as far as they are there.

        Raises:
            UserError: The service refuses it.
        """
        from botocore.exceptions import ClientError

        with asking("endpoint configurations and models"):
            for remove, member in (
                (self.sagemaker.delete_endpoint_config, "EndpointConfigName"),
                (self.sagemaker.delete_model, "ModelName"),
            ):
                try:
                    remove(**{member: name})
                except ClientError as error:
                    if not is_missing(error):
                        raise

    def target(self, endpoint: str) -> dict[str, Any] | None:
        """Returns what Application Auto Scaling has of an endpoint; None where it scales nothing.

        Raises:
            UserError: The service cannot be asked.
        """
        resource = scaled_resource(endpoint)
        with asking("autoscaling"):
            found = self.scaling.describe_scalable_targets(
                ServiceNamespace=resource["ServiceNamespace"],
                ScalableDimension=resource["ScalableDimension"],
                ResourceIds=[resource["ResourceId"]],
            )
        return next(iter(found["ScalableTargets"]), None)

    def stop_scaling(self, endpoint: str) -> bool:
        """Ends the autoscaling of an endpoint, and says whether there was any.

        Raises:
            UserError: The service refuses it.
        """
        if self.target(endpoint) is None:
            return False
        with asking("autoscaling"):
            self.scaling.deregister_scalable_target(**scaled_resource(endpoint))
        return True

    def variant(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the variant of an endpoint as it was asked for; empty where its configuration is gone.

        Raises:
            UserError: The service cannot be asked.
        """
        from botocore.exceptions import ClientError

        name = described.get("EndpointConfigName")
        if name is None:
            return {}
        with asking("endpoint configurations"):
            try:
                found = self.sagemaker.describe_endpoint_config(EndpointConfigName=name)
            except ClientError as error:
                if not is_missing(error):
                    raise
                return {}
        return dict(found["ProductionVariants"][0])

    def package(self, variant: Mapping[str, Any]) -> str | None:
        """Returns what a variant serves, as its model's tag says; None where nothing does.

        Raises:
            UserError: The service cannot be asked.
        """
        from botocore.exceptions import ClientError

        with asking("models"):
            try:
                arn = self.sagemaker.describe_model(ModelName=variant["ModelName"])["ModelArn"]
            except ClientError as error:
                if not is_missing(error):
                    raise
                return None
            tags = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        return next((tag["Value"] for tag in tags if tag["Key"] == PACKAGE_TAG), None)

    def _named(self, kind: str, endpoint: str) -> list[str]:
        operation = {"EndpointConfig": "list_endpoint_configs", "Model": "list_models"}[kind]
        beginning = endpoint[: _beginning()]
        pages = self.sagemaker.get_paginator(operation).paginate(NameContains=beginning)
        found = (one for page in pages for one in page[f"{kind}s"])
        return [
            one[f"{kind}Name"]
            for one in found
            if _TAIL.fullmatch(one[f"{kind}Name"].removeprefix(beginning.rstrip("-")))
            and self._is_of(one[f"{kind}Arn"], endpoint)
        ]

    def _is_of(self, arn: str, endpoint: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            tags = self.sagemaker.list_tags(ResourceArn=arn)["Tags"]
        except ClientError as error:
            # Who may not read somebody else's tags may still list what is their own.
            if error.response["Error"]["Code"] not in _FORBIDDEN:
                raise
            return False
        return {"Key": ENDPOINT_TAG, "Value": endpoint} in tags

    def _list(self) -> str:
        return f"{command('deploy')} action=list{' sagemaker=rehearsal' if self.settings.rehearsal else ''}"


def _beginning() -> int:
    """Returns how much of an endpoint's name the names of its parts begin with, at most."""
    from dogbreeds.sagemaker.launch.launcher import LONGEST_JOB

    return LONGEST_JOB - len("-20261121-140359-ab12")


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Says why AWS does not do something.

    Args:
        what: What it is asked about.

    Raises:
        UserError: In the place of what boto3 raises.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        raise UserError(
            "There are no AWS credentials: `aws configure`, or AWS_PROFILE, gives them. "
            "sagemaker=rehearsal needs none."
        ) from error
    except ClientError as error:
        raise UserError(
            f"AWS refuses {error.operation_name} for {what} ({message_of(error)}). {advice(str(error))}".rstrip()
        ) from error
    except BotoCoreError as error:
        raise UserError(f"AWS cannot be asked about {what}: {error}") from error


def is_missing(error: Exception) -> bool:
    """Says whether the service refused something because it is not there."""
    answer: Mapping[str, Any] = getattr(error, "response", {}).get("Error", {})
    return answer.get("Code") in _UNKNOWN and "Could not find" in answer.get("Message", "")


#: Asks the person at the keyboard something, and returns what was typed.
Ask = Callable[[str], str]
