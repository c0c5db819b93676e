"""The account that commands work in: AWS's, or the rehearsal on this machine that takes its place."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs
from botocore.exceptions import BotoCoreError, ClientError
from omegaconf import OmegaConf

from dogbreeds.errors import ConfigError, UserError, did_you_mean
from dogbreeds.files import read_json
from dogbreeds.installation import command, conf_directory
from dogbreeds.overrides import override
from dogbreeds.sagemaker.aws_errors import ForbiddenError, MissingError, advice, aws_errors, message_of
from dogbreeds.schema import SagemakerConfig

#: Makes a boto3 client by the name of its service; `config` sets retries and timeouts.
Clients = Callable[..., Any]
# The region of a rehearsal unless it names one, and the only one that must not be named when a bucket is made.
_FIRST_REGION = "us-east-1"


@dataclass
class Account:
    """An account; role and bucket are looked up when they are first needed.

    Whoever uses it asks it for a client each time, as credentials are renewed in place.
    """

    client: Clients
    settings: SagemakerConfig

    sagemaker = cached_property(lambda account: account.client("sagemaker"))
    scaling = cached_property(lambda account: account.client("application-autoscaling"))
    logs = cached_property(lambda account: account.client("logs"))
    s3 = cached_property(lambda account: account.checked_client("s3"))
    _setup = cached_property(lambda me: me.command("aws", "action=setup", f"sagemaker.prefix={me.settings.prefix}"))

    def checked_client(self, service: str, **options: Any) -> Any:
        """Returns a client; S3 refuses its requests where a bucket is another account's, as names can be guessed."""
        client = self.client(service, **options)
        client.meta.events.register("before-parameter-build.s3", self._expect_owner)
        return client

    @property
    def owner(self) -> str:
        """The account that buckets must belong to."""
        return self.settings.bucket_owner or self.identity["Account"]

    def _expect_owner(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if name in model.input_shape.members:
                params.setdefault(name, self.owner)

    @property
    def region(self) -> str:
        return str(self.s3.meta.region_name)

    @property
    def where(self) -> str:
        return "rehearsed on this machine" if self.settings.rehearsal else f"on AWS in {self.region}"

    @property
    def poll_seconds(self) -> float:
        return 0.2 if self.settings.rehearsal else 5.0

    def renew(self) -> None:
        """Takes the credentials that there are now: boto3 reads a file of them once. Clients are made anew."""
        for made in ("sagemaker", "scaling", "logs", "s3"):
            self.__dict__.pop(made, None)
        if not self.settings.rehearsal:
            import boto3

            self.client = boto3.Session(region_name=self.settings.region).client

    def command(self, name: str, *arguments: str, begins: bool = False) -> str:
        """Returns a command for a person to paste; one that `begins` something names role, bucket and prefix too."""
        given, rehearsal = self.settings, self.settings.rehearsal
        usual = OmegaConf.load(conf_directory() / "sagemaker" / "aws.yaml")
        if rehearsal:
            arguments += ("sagemaker=rehearsal",)
            if given.rehearsal_dir != usual.rehearsal_dir:
                arguments += (override("sagemaker.rehearsal_dir", given.rehearsal_dir),)
        if given.region not in (None, _FIRST_REGION if rehearsal else None):
            arguments += (f"sagemaker.region={given.region}",)
        for needed in ("bucket_owner", *(("role", "bucket", "prefix") if begins else ())):
            if (value := getattr(given, needed)) != usual[needed]:
                arguments += (override(f"sagemaker.{needed}", value),)
        return " ".join((command(name), *arguments))

    @property
    def known_file(self) -> Path:
        """Where `aws action=setup` writes what it made in this account and region, for this prefix."""
        own, here = platformdirs.user_config_path("dogbreeds"), self.settings
        name = f"aws-{self.identity['Account']}-{self.region}-{here.prefix}.json"
        return (Path(here.rehearsal_dir) if here.rehearsal else own) / name

    @cached_property
    def known(self) -> dict[str, str]:
        """Role and bucket that `aws action=setup` made; of a rehearsal that has ended nothing is left."""
        known: dict[str, str] = read_json(self.known_file)
        return known if not self.settings.rehearsal or known.get("endpoint") == self.s3.meta.endpoint_url else {}

    def _gone(self, what: str, name: str) -> ConfigError:
        if name != self.known.get(what):
            return ConfigError(f"sagemaker.{what}={name}: no {what} of that name.")
        return ConfigError(f"{self.known_file} names the {what} {name}, which is gone. Make it: {self._setup}")

    @cached_property
    def role(self) -> str:
        """ARN of the jobs' role: that of the settings, `aws action=setup`, this notebook or the rehearsal."""
        name, caller = self.settings.role or self.known.get("role"), self.identity["Arn"]
        if name is not None and name.startswith("arn:"):
            own = f"arn:{self.s3.meta.partition}:"
            if not name.startswith(own):
                raise ConfigError(f"sagemaker.role={name}: roles that work in {self.region} begin with {own}.")
            if self.settings.role and not self.settings.rehearsal:
                return name
        if name is None and ":assumed-role/" in caller:
            name = caller.split(":assumed-role/")[1].split("/")[0]
        if name is None and self.settings.rehearsal:
            from local_sagemaker.client import ROLE

            name = ROLE
        if name is None:
            said = "sagemaker.role=null: these credentials are not a role that jobs can assume."
            raise ConfigError(f"{said} Make one with {self._setup}, or set sagemaker.role=<name or ARN>.")
        try:
            with aws_errors(f"look up the role {name}", "Give its ARN instead: sagemaker.role=<ARN>."):
                return str(self.client("iam").get_role(RoleName=name.rpartition("/")[2])["Role"]["Arn"])
        except MissingError as error:
            raise self._gone("role", name) from error

    @cached_property
    def bucket(self) -> str:
        """The bucket that holds everything; the default one is created where it is missing."""
        named = self.settings.bucket or self.known.get("bucket")
        bucket = named or f"sagemaker-{self.region}-{self.identity['Account']}"
        if not self.has_bucket(bucket):
            if named is not None:
                raise self._gone("bucket", bucket)
            self.create_bucket(bucket)
        return bucket

    def has_bucket(self, bucket: str) -> bool:
        """Says whether a bucket exists.

        Raises:
            ConfigError: It belongs to another account, or these credentials may not use it.
        """
        try:
            with aws_errors(f"use sagemaker.bucket={bucket}"):
                self.s3.head_bucket(Bucket=bucket)
        except MissingError:
            return False
        except ForbiddenError as error:
            raise ConfigError(
                f"sagemaker.bucket={bucket}: it does not belong to account {self.owner}, or "
                "these credentials lack s3:ListBucket. Use another one, sagemaker.bucket=<bucket>, or name the "
                "account that it belongs to, if you trust it: sagemaker.bucket_owner=<account>."
            ) from error
        return True

    @cached_property
    def identity(self) -> dict[str, str]:
        """The account's number and the ARN of who asks: `Account`, `Arn`."""
        with aws_errors("use these AWS credentials"):
            return dict(self.client("sts").get_caller_identity())

    def create_bucket(self, bucket: str) -> None:
        place = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        with aws_errors(f"create the bucket {bucket}", "Use an existing one: sagemaker.bucket=<bucket>."):
            self.s3.create_bucket(Bucket=bucket, **({} if self.region == _FIRST_REGION else place))
        self.block_public_access(bucket)

    def block_public_access(self, bucket: str) -> None:
        ways = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        closed = dict.fromkeys(ways, True)
        with aws_errors(f"block public access to {bucket}"):
            self.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)


@contextmanager
def connected(settings: SagemakerConfig) -> Iterator[Account]:
    """Yields the account; a rehearsal goes on when the block ends."""
    if settings.rehearsal:
        from local_sagemaker import Faults, LocalSageMakerError, connect

        known = [one.name for one in fields(Faults)]
        for name in settings.faults:
            if name not in known:
                raise ConfigError(f"sagemaker.faults.{name}: must be one of {', '.join(known)}.")
        region = settings.region or _FIRST_REGION
        _check_region(region)
        try:
            local = connect(Path(settings.rehearsal_dir), Faults(**settings.faults), settings.rehearsal_idle_minutes)
        except LocalSageMakerError as error:
            raise UserError(f"sagemaker=rehearsal: {error}") from error
        yield Account(local.session(region).client, settings)
        return
    import boto3

    # What it warns of with a traceback is raised too.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)
    try:
        own = boto3.Session(region_name=settings.region)
        if own.region_name is None:
            raise ConfigError("sagemaker.region=null: AWS's configuration has none. Set sagemaker.region=<region>.")
        _check_region(own.region_name)
        own.client("sts")
        if credentials := own.get_credentials():
            credentials.get_frozen_credentials()
    except (BotoCoreError, ClientError, OSError, ValueError, EOFError) as error:
        said = message_of(error) or "a code was asked for"
        hint = advice(said) or "Correct AWS_PROFILE, AWS's other variables or ~/.aws/config, or run `aws configure`."
        raise ConfigError(f"AWS's configuration cannot be used ({said.rstrip('.')}). {hint}") from error
    yield Account(own.client, settings)


def _check_region(region: str) -> None:
    import boto3

    session = boto3.Session(region_name=_FIRST_REGION)
    partitions = session.get_available_partitions()
    known = [one for name in partitions for one in session.get_available_regions("sagemaker", name)]
    if region not in known:
        hint = did_you_mean(region, known)
        raise ConfigError(f"sagemaker.region={region}: boto3 knows no such region of SageMaker. {hint}".rstrip())
