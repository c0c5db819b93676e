"""Deploys a model package: checks it, uploads it, creates or updates the endpoint, waits, and tries it once."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import lines_beside
from dogbreeds.overrides import override
from dogbreeds.package.archive import archive_for
from dogbreeds.package.package import read_description
from dogbreeds.sagemaker.aws_errors import aws_errors
from dogbreeds.sagemaker.endpoints import autoscaling
from dogbreeds.sagemaker.endpoints.account import Endpoints, failure, wait
from dogbreeds.sagemaker.endpoints.client import asker
from dogbreeds.sagemaker.endpoints.smoke_test import SmokeTestPhoto, smoke_test_photo, summary_of
from dogbreeds.sagemaker.following import Followed
from dogbreeds.sagemaker.launch.launcher import MAX_JOB_NAME, job_name
from dogbreeds.sagemaker.requests import endpoint as requests
from dogbreeds.sagemaker.requests.endpoint import POLICY, Deployment
from dogbreeds.sagemaker.requests.images import serving_image
from dogbreeds.sagemaker.requests.validation import check_request
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.session import Account
from dogbreeds.schema import SagemakerConfig, VariantConfig
from dogbreeds.serve.client import PredictionFailed, retry
from local_sagemaker.rules.instances import gpus

log = logging.getLogger(__name__)

_ARCHIVE = "model.tar.gz"
# For the first answer, for which a serverless endpoint has to start.
_PATIENCE_SECONDS = 300.0
_SCALING = "application-autoscaling"


@dataclass(frozen=True)
class Deployer:
    """Deploys packages; `variant` has been checked, and `settings` have the region."""

    endpoints: Endpoints
    settings: SagemakerConfig
    variant: VariantConfig
    storage: Storage

    @classmethod
    def of(cls, account: Account, variant: VariantConfig) -> Self:
        requests.check_variant(variant)
        settings = replace(account.settings, region=account.region)
        storage = Storage(lambda: account.s3, account.bucket, settings.prefix, settings.kms_key, Console())
        return cls(Endpoints(account), settings, variant, storage)

    def deploy(self, package: Path, endpoint: str) -> str:
        """Makes an endpoint serve a package, and returns what to print; an existing one keeps answering meanwhile.

        Raises:
            UserError: It cannot be deployed; nothing new is left running.
        """
        if self.settings.isolated and self.variant.image is None and read_description(package).library == "timm":
            said = "sagemaker.isolated=true: without a network an endpoint cannot install timm,"
            raise ConfigError(f"{said} where this backbone comes from. Name an image that has it, variant.image=<URI>.")
        account, former = self.endpoints.account, self.endpoints.find(endpoint)
        name = job_name(endpoint, MAX_JOB_NAME)
        deployment = Deployment(
            endpoint=endpoint,
            name=name,
            # Not uploaded yet: the digest of its content is put in below.
            archive=self.storage.uri("files", name, _ARCHIVE),
            image=serving_image(self.variant, account.region),
            role=account.role,
            folder=self.storage.uri(),
            package=summary_of(package),
        )
        self._check(deployment, update=former is not None)
        if former is not None:
            self._refuse_former(former)
            autoscaling.settle_scaling(account, former)
        given = {"deployment": deployment, "variant": self.variant, "package": package, "where": account.where}
        for line in lines_beside(__file__, "announced.txt", **given, update=former is not None):
            log.info(line)
        photo = smoke_test_photo(package)
        deployment = replace(deployment, archive=self._upload(package))
        with self._undone_unless_started(deployment) as undo:
            self._create(deployment, former, undo)
        what = "The endpoint (it costs until it is deleted)"
        followed = Followed(account, what, self.endpoints.command("status", endpoint))
        with followed.explained():
            self._wait(deployment, followed)
            for gone in self.endpoints.remove_parts(endpoint, kept=deployment.name) if former is not None else []:
                log.info("removed %s", gone)
            return self._tried(endpoint, photo)

    def _check(self, deployment: Deployment, *, update: bool) -> None:
        check_request("CreateModel", requests.model_request(deployment, self.settings))
        check_request("CreateEndpointConfig", requests.config_request(deployment, self.variant, self.settings))
        if update:
            check_request("UpdateEndpoint", requests.update_request(deployment, scaled=True))
        else:
            check_request("CreateEndpoint", requests.endpoint_request(deployment, self.settings))
        for operation, request in requests.scaling_requests(deployment.endpoint, self.variant).items():
            check_request(operation, request, _SCALING)

    def _refuse_former(self, former: Mapping[str, Any]) -> None:
        self.endpoints.refuse_foreign(former)
        endpoint, status = former["EndpointName"], former["EndpointStatus"]
        delete, kind = self.endpoints.command("delete", endpoint), _kind_of(former)
        if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
            reason = former.get("FailureReason", "no reason given")
            raise UserError(f"{endpoint} is {status} and cannot be updated ({reason}). Delete it first: {delete}")
        if status != "InService":
            again = f"See its status: {self.endpoints.command('status', endpoint)}"
            raise UserError(f"{endpoint} is {status}: deploy again when that is done. {again}")
        if kind != self.variant.kind:
            said = f"{endpoint} is {kind} and cannot become variant={self.variant.kind}."
            raise UserError(f"{said} Use another name, or delete it first: {delete}")

    def _upload(self, package: Path) -> str:
        with tempfile.TemporaryDirectory(prefix="dogbreeds-archive-") as scratch:
            archive, found = Path(scratch) / _ARCHIVE, gpus(self.variant.instance or "")
            # Without a network the container cannot install anything.
            archive_for(package, archive, gpus=found, requirements=not self.settings.isolated)
            return self.storage.upload(archive)

    def _create(self, deployment: Deployment, former: Mapping[str, Any] | None, undo: ExitStack) -> None:
        """Starts the deployment; autoscaling that AWS does not let it keep is stopped."""
        account, name = self.endpoints.account, deployment.endpoint
        client, ours = account.sagemaker, requests.scaling_requests(name, self.variant)
        new = None
        if ours:
            new = autoscaling.Scaling(ours["RegisterScalableTarget"], {POLICY: ours["PutScalingPolicy"]}, [], [])
        with aws_errors(f"create {deployment.endpoint}"):
            client.create_model(**requests.model_request(deployment, self.settings))
            client.create_endpoint_config(**requests.config_request(deployment, self.variant, self.settings))
            if former is None:
                planned = autoscaling.plan_scaling(account, name, deployment.name, None, new)
                undo.callback(planned.unlink, missing_ok=True)
                client.create_endpoint(**requests.endpoint_request(deployment, self.settings))
                return
        scaling = autoscaling.scaling_of(self.endpoints, name)
        same = self.endpoints.variant(former).get("InstanceType") == self.variant.instance
        # AWS does not change the instance type of an endpoint that scales, and scaling would choose their number.
        wanted = scaling and scaling.updated(ours)
        stays = same and (self.variant.max_instances is not None or wanted == scaling)
        stopped = None if stays else scaling
        autoscaling.plan_scaling(account, name, deployment.name, stopped, new if stopped is None else wanted)
        undo.callback(autoscaling.restore_scaling, account, former)
        if stopped is not None:
            log.warning("autoscaling is stopped until the endpoint has changed")
            self.endpoints.stop_scaling(name)
        with aws_errors(f"update {deployment.endpoint}"):
            client.update_endpoint(**requests.update_request(deployment, scaled=stays and scaling is not None))

    @contextmanager
    def _undone_unless_started(self, deployment: Deployment) -> Iterator[ExitStack]:
        """Removes what was created for an endpoint that AWS then refuses, and runs the callbacks of the stack."""
        undo = ExitStack()
        try:
            yield undo
        except BaseException as error:
            # The request may have arrived although its answer was lost.
            try:
                found = self.endpoints.find(deployment.endpoint) or {}
            except UserError:
                undo.close()
                raise error from None
            pending = found.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
            if deployment.name in (found.get("EndpointConfigName"), pending):
                status = self.endpoints.command("status", deployment.endpoint)
                log.warning("%s is starting nevertheless: %s", deployment.endpoint, status)
            else:
                undo.close()
                self.endpoints.discard(deployment.name)
            raise

    def _wait(self, deployment: Deployment, followed: Followed) -> None:
        described = wait(self.endpoints, deployment.endpoint, followed)
        kept = described["EndpointStatus"] == "InService"
        if kept and described.get("EndpointConfigName") == deployment.name:
            autoscaling.settle_scaling(self.endpoints.account, described)
            return
        error = failure(self.endpoints, described, deployed=deployment.name)
        if kept:
            autoscaling.restore_scaling(self.endpoints.account, described)
            self.endpoints.discard(deployment.name)
        raise error

    def _tried(self, endpoint: str, photo: SmokeTestPhoto) -> str:
        """Asks the endpoint once, and returns what to print at the end."""
        account, named = self.endpoints.account, override("endpoint", endpoint)
        lines = [
            f"ask      {account.command('predict', named, 'images=<photos>')}",
            f"status   {self.endpoints.command('status', endpoint)}",
            f"delete   {self.endpoints.command('delete', endpoint)}",
        ]
        try:
            client = asker(account.checked_client, endpoint, 1, self.settings.kms_key)
            answer = retry(lambda: client.predict(photo.content), _PATIENCE_SECONDS)
        except (PredictionFailed, UserError) as error:
            raise UserError("\n".join([f"{endpoint} is in service but does not answer: {error}", *lines])) from error
        answered = [f"answer   {answer['breed']} ({answer['probability']:.1%}) for {photo.source}"]
        if photo.expected not in (None, answer["breed"]):
            answered.append(f"differs  the package says {photo.expected} on this machine")
        return "\n".join(["", *answered, *lines])


def _kind_of(described: Mapping[str, Any]) -> str:
    variants = described.get("ProductionVariants") or [{}]
    if "CurrentServerlessConfig" in variants[0]:
        return requests.SERVERLESS
    return requests.ASYNCHRONOUS if "AsyncInferenceConfig" in described else requests.REALTIME
