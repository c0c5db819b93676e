"""Deploys a model package: judged, uploaded, created or updated, waited for, asked once."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.package.archive import archive_for
from dogbreeds.sagemaker.endpoints.account import Account, asking
from dogbreeds.sagemaker.endpoints.autoscaling import Scaling, ended_scaling
from dogbreeds.sagemaker.endpoints.client import asker
from dogbreeds.sagemaker.endpoints.smoke_test import Trial, summary_of, trial_of
from dogbreeds.sagemaker.endpoints.wait import failure, follow, last_lines
from dogbreeds.sagemaker.launch.launcher import LONGEST_JOB, job_name
from dogbreeds.sagemaker.requests.endpoint import (
    ASYNCHRONOUS,
    REALTIME,
    SERVERLESS,
    Deployment,
    check_variant,
    config_request,
    endpoint_request,
    model_request,
    scaling_requests,
    update_request,
)
from dogbreeds.sagemaker.requests.images import serving_image
from dogbreeds.sagemaker.requests.instances import gpus
from dogbreeds.sagemaker.requests.validation import check_request
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.session import Session
from dogbreeds.schema import SagemakerConfig, VariantConfig
from dogbreeds.serve.client import PredictionFailed, retry

log = logging.getLogger(__name__)

_ARCHIVE = "model.tar.gz"
_NOWHERE = "0" * 64
# For the first answer, which a serverless endpoint has to wake up for.
_PATIENCE_SECONDS = 300.0
_SCALING = "application-autoscaling"


@dataclass(frozen=True)
class Deployer:
    """Deploys packages.

    Attributes:
        session: The account.
        sagemaker: Where.
        variant: On what; it has been checked.
        account: The account's endpoints.
        storage: The place in S3.
    """

    session: Session
    sagemaker: SagemakerConfig
    variant: VariantConfig
    account: Account
    storage: Storage

    @classmethod
    def of(cls, session: Session, sagemaker: SagemakerConfig, variant: VariantConfig, account: Account) -> Deployer:
        """Returns what deploys to an account.

        Raises:
            ConfigError: The settings contradict each other.
        """
        check_variant(variant)
        storage = Storage(session.s3, session.bucket, sagemaker.prefix, sagemaker.kms_key, Console())
        return cls(session, replace(sagemaker, region=session.region), variant, account, storage)

    def deploy(self, package: Path, endpoint: str) -> str:
        """Makes an endpoint answer with a package, one that is there without a gap.

        Args:
            package: The directory of the package.
            endpoint: The endpoint's name.

        Returns:
            What to print at the end.

        Raises:
            UserError: It cannot be deployed; the message says what is left running, which is nothing new.
        """
        former = self.account.find(endpoint)
        deployment = Deployment(
            endpoint=endpoint,
            name=job_name(endpoint, LONGEST_JOB),
            archive=self.storage.uri("files", _NOWHERE, _ARCHIVE),
            image=serving_image(self.variant, self.session.region),
            role=self.session.role,
            place=self.session.uri(self.sagemaker.prefix),
            package=summary_of(package),
        )
        self._check(deployment, update=former is not None)
        if former is not None:
            self._refuse_former(former)
        self._announce(deployment, package, update=former is not None)
        trial = trial_of(package)
        deployment = replace(deployment, archive=self._upload(package))
        with self._undone_unless_begun(deployment) as undo:
            ended = self._create(deployment, former, undo)
        with self._leaving(endpoint):
            self._awaited(deployment, former, ended)
            self._scale(endpoint)
            for gone in self.account.remove_parts(endpoint, kept=deployment.name) if former is not None else []:
                log.info("removed %s", gone)
            return self._tried(endpoint, trial)

    def _check(self, deployment: Deployment, *, update: bool) -> None:
        check_request("CreateModel", model_request(deployment, self.sagemaker))
        check_request("CreateEndpointConfig", config_request(deployment, self.variant, self.sagemaker))
        if update:
            check_request("UpdateEndpoint", update_request(deployment, scaled=True))
        else:
            check_request("CreateEndpoint", endpoint_request(deployment, self.sagemaker))
        for operation, request in scaling_requests(deployment.endpoint, self.variant).items():
            check_request(operation, request, _SCALING)

    def _refuse_former(self, former: Mapping[str, Any]) -> None:
        self.account.refuse_foreign(former)
        endpoint, status = former["EndpointName"], former["EndpointStatus"]
        if status in ("Failed", "OutOfService", "UpdateRollbackFailed"):
            raise UserError(
                f"{endpoint} is {status} and cannot be updated ({former.get('FailureReason', 'nobody says why')}). "
                f"Remove it first: {self.account.command('delete', endpoint)}"
            )
        if status != "InService":
            raise UserError(
                f"{endpoint} is {status}: deploy again once that is over. Look at it with: "
                f"{self.account.command('status', endpoint)}"
            )
        kind = _kind_of(former)
        if kind != self.variant.kind:
            raise UserError(
                f"{endpoint} is {kind}, and variant={self.variant.kind} would make it another kind. Take another "
                f"name, or remove it first: {self.account.command('delete', endpoint)}"
            )

    def _announce(self, deployment: Deployment, package: Path, *, update: bool) -> None:
        variant = self.variant
        serverless = f"no machines of its own, {variant.memory_mb} MB, {variant.concurrency} requests at a time"
        scaled = (
            "" if variant.max_instances is None else f", {variant.min_instances} to {variant.max_instances} of them"
        )
        machines = serverless if variant.kind == SERVERLESS else f"{variant.instances} x {variant.instance}{scaled}"
        cost = "by the request" if variant.kind == SERVERLESS else "as long as it is there"
        lines = [
            f"endpoint {deployment.endpoint}, {self.session.place}, {'updated' if update else 'new'}",
            f"serves   {package}: {deployment.package}",
            f"on       {machines}; it costs {cost}",
            f"image    {deployment.image}",
            f"to       {self.session.uri(self.sagemaker.prefix)}",
        ]
        for line in lines:
            log.info(line)

    def _upload(self, package: Path) -> str:
        variant = self.variant
        with tempfile.TemporaryDirectory(prefix="dogbreeds-archive-") as scratch:
            archive = Path(scratch) / _ARCHIVE
            # Without a network nothing can be installed when the container starts.
            archive_for(package, archive, gpus=gpus(variant.instance or ""), requirements=not self.sagemaker.isolated)
            return self.storage.upload(archive)

    def _create(self, deployment: Deployment, former: Mapping[str, Any] | None, undo: ExitStack) -> Scaling | None:
        """Begins, and returns the autoscaling that had to end for it."""
        client = self.session.sagemaker
        with asking("models, configurations and endpoints"):
            client.create_model(**model_request(deployment, self.sagemaker))
            client.create_endpoint_config(**config_request(deployment, self.variant, self.sagemaker))
            if former is None:
                client.create_endpoint(**endpoint_request(deployment, self.sagemaker))
                return None
        scaled = self.account.target(deployment.endpoint) is not None
        same = self.account.variant(former).get("InstanceType") == self.variant.instance
        ended = None
        # AWS changes the instances of nothing that scales, and scaling itself would choose their number.
        if scaled and not (same and self.variant.max_instances is not None):
            ended = ended_scaling(self.account, deployment.endpoint)
            if ended is not None:
                undo.callback(ended.put_back, self.account)
            log.warning("autoscaling ended; it begins again, where it is asked for, once the new instances answer")
            scaled = False
        with asking("endpoints"):
            client.update_endpoint(**update_request(deployment, scaled=scaled))
        return ended

    @contextmanager
    def _undone_unless_begun(self, deployment: Deployment) -> Iterator[ExitStack]:
        """Removes what was made for an endpoint that the service then refuses, and does what the stack was given."""
        undo = ExitStack()
        try:
            yield undo
        except BaseException:
            # The answer may have been lost on its way, and not the request.
            found = self.account.find(deployment.endpoint) or {}
            pending = found.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
            if deployment.name in (found.get("EndpointConfigName"), pending):
                log.warning(
                    "%s is coming up all the same: %s",
                    deployment.endpoint,
                    self.account.command("status", deployment.endpoint),
                )
            else:
                undo.close()
                self.account.discard(deployment.name)
            raise

    @contextmanager
    def _leaving(self, endpoint: str) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            if self.session.jobs_outlive:
                state = "It goes on, and costs until it is deleted. Look at it with: "
            else:
                state = "Stopped, and with it the rehearsal. What has become of it: "
            raise _Left(f"\n{state}{self.account.command('status', endpoint)}") from None

    def _awaited(self, deployment: Deployment, former: Mapping[str, Any] | None, ended: Scaling | None) -> None:
        described = follow(self.account, deployment.endpoint, deployment.name, former)
        if described["EndpointStatus"] == "InService" and described.get("EndpointConfigName") == deployment.name:
            return
        kept = described["EndpointStatus"] == "InService"
        error = failure(self.account, described, last_lines(self.account, deployment.endpoint), kept=kept)
        if kept:
            if ended is not None:
                ended.put_back(self.account)
            self.account.discard(deployment.name)
        raise error

    def _scale(self, endpoint: str) -> None:
        requests = scaling_requests(endpoint, self.variant)
        if not requests:
            return
        with asking("autoscaling"):
            self.account.scaling.register_scalable_target(**requests["RegisterScalableTarget"])
            self.account.scaling.put_scaling_policy(**requests["PutScalingPolicy"])
        log.info("autoscaling from %s to %s instances", self.variant.min_instances, self.variant.max_instances)

    def _tried(self, endpoint: str, trial: Trial) -> str:
        """Asks the endpoint once, and returns what to print at the end."""
        place = " sagemaker=rehearsal" if self.sagemaker.rehearsal else ""
        lines = [
            "",
            f"ask      {command('predict')} {override('endpoint', endpoint)} images=<photos>{place}",
            f"look     {self.account.command('status', endpoint)}",
            f"delete   {self.account.command('delete', endpoint)}",
        ]
        try:
            asking_it = asker(self.session.client, endpoint, 1, self.sagemaker.kms_key)
            answer = retry(lambda: asking_it.predict(trial.photo), _PATIENCE_SECONDS)
        except (PredictionFailed, UserError) as error:
            raise UserError(
                "\n".join([f"{endpoint} is in service and does not answer: {error}", *lines[1:]])
            ) from error
        lines.insert(1, f"answer   {answer['breed']} ({answer['probability']:.1%}) for {trial.source}")
        if trial.expected is not None and answer["breed"] != trial.expected:
            lines.insert(2, f"differs  the package says {trial.expected} on this machine")
        return "\n".join(lines)


class _Left(UserError):
    exit_code = 130


def _kind_of(described: Mapping[str, Any]) -> str:
    variants = described.get("ProductionVariants") or [{}]
    if "CurrentServerlessConfig" in variants[0]:
        return SERVERLESS
    return ASYNCHRONOUS if "AsyncInferenceConfig" in described else REALTIME
