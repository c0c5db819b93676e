"""Who talks to AWS, where and as whom: clients, region, role and bucket, or the rehearsal that stands in for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dogbreeds.errors import ConfigError
from dogbreeds.schema import SagemakerConfig

_ABSENT = ("404", "NoSuchBucket", "NoSuchKey")


#: Makes a client: given the name of a service and, as `config`, how often it tries and how long it waits.
Clients = Callable[..., Any]


@dataclass(frozen=True)
class Session:
    """An account that is ready to be used.

    Attributes:
        sagemaker: Client of the SageMaker API.
        s3: Client of S3.
        logs: Client of CloudWatch Logs.
        region: Such as `eu-central-1`.
        role: ARN of the role that jobs run as.
        bucket: Where everything lies.
        place: Where jobs run, for the person.
        between_looks: Seconds from one look at a job to the next.
        jobs_outlive: Jobs go on when the command that began them ends.
        jobs_install: Jobs install what they need, whatever this machine has.
        client: Makes further clients, by boto3's names.
    """

    sagemaker: Any
    s3: Any
    logs: Any
    region: str
    role: str
    bucket: str
    place: str
    between_looks: float
    jobs_outlive: bool
    jobs_install: bool
    client: Clients

    def uri(self, *parts: str) -> str:
        """Returns the S3 URI of something in the bucket."""
        return "/".join((f"s3://{self.bucket}", *parts))


@contextmanager
def opened(settings: SagemakerConfig) -> Iterator[Session]:
    """Yields a session; a rehearsal's service runs as long as it is open.

    Raises:
        ConfigError: Credentials, region, role or bucket are missing or cannot be used; the message names the key.
    """
    with connected(settings) as client:
        yield _session(client, settings)


@contextmanager
def connected(settings: SagemakerConfig) -> Iterator[Clients]:
    """Yields what makes clients, for who needs neither role nor bucket; a rehearsal runs as long as it is open.

    Raises:
        ConfigError: The region is missing, or AWS's configuration cannot be used.
    """
    if settings.rehearsal:
        from dogbreeds.sagemaker.rehearsal import Faults, Rehearsal

        with Rehearsal(Path(settings.rehearsal_dir), Faults(**settings.faults)) as rehearsal:
            yield rehearsal.session().client
    else:
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            own = boto3.Session(region_name=settings.region)
        except BotoCoreError as error:
            raise ConfigError(f"AWS's configuration cannot be used: {error}") from error
        if own.region_name is None:
            raise ConfigError("sagemaker.region: AWS's configuration names none. Give sagemaker.region=<region>.")
        yield own.client


def _session(client: Clients, settings: SagemakerConfig) -> Session:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        s3, sts = client("s3"), client("sts")
        identity = sts.get_caller_identity()
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigError(
            "There are no AWS credentials: `aws configure`, or AWS_PROFILE, gives them. "
            "sagemaker=rehearsal needs none."
        ) from error
    except ClientError as error:
        raise ConfigError(f"AWS does not accept these credentials ({message_of(error)}).") from error
    except BotoCoreError as error:
        raise ConfigError(f"AWS cannot be reached: {error}") from error
    region = s3.meta.region_name
    bucket = settings.bucket or f"sagemaker-{region}-{identity['Account']}"
    _ensure_bucket(s3, bucket, region, own=settings.bucket is None)
    return Session(
        sagemaker=client("sagemaker"),
        s3=s3,
        logs=client("logs"),
        region=region,
        role=_role(client("iam"), settings.role, identity["Arn"]),
        bucket=bucket,
        place="a rehearsal on this machine" if settings.rehearsal else f"on AWS in {region}",
        between_looks=between_looks(settings),
        jobs_outlive=not settings.rehearsal,
        jobs_install=not settings.rehearsal,
        client=client,
    )


def between_looks(settings: SagemakerConfig) -> float:
    """Returns the seconds from one look at something that is waited for to the next."""
    return 0.2 if settings.rehearsal else 5.0


def _role(iam: Any, role: str | None, caller: str) -> str:
    """Returns the ARN of the role of jobs: the one that is named, or the one that this notebook runs as."""
    from botocore.exceptions import ClientError

    if role is not None and role.startswith("arn:"):
        return role
    name = role
    if name is None and ":assumed-role/" in caller:
        name = caller.split(":assumed-role/")[1].split("/")[0]
    if name is None:
        raise ConfigError(
            "sagemaker.role=null: these credentials are no role that jobs could run as. Give "
            "sagemaker.role=<name or ARN>; docs/sagemaker.md has its policy."
        )
    try:
        return str(iam.get_role(RoleName=name)["Role"]["Arn"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            raise ConfigError(f"sagemaker.role={name}: there is no such role ({message_of(error)}).") from error
        raise ConfigError(
            f"sagemaker.role={name} cannot be looked up ({message_of(error)}): give its ARN instead."
        ) from error


def _ensure_bucket(s3: Any, bucket: str, region: str, *, own: bool) -> None:
    """Finds the bucket; the one without a name of the user's is made where it is not there yet."""
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise ConfigError(f"sagemaker.bucket={bucket} cannot be used ({message_of(error)}).") from error
        if not own:
            raise ConfigError(f"sagemaker.bucket={bucket}: there is no such bucket.") from error
        # us-east-1 is the one region that must not be named.
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        closed = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        try:
            s3.create_bucket(Bucket=bucket, **place)
            s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)
        except ClientError as refusal:
            raise ConfigError(
                f"The bucket {bucket} cannot be made ({message_of(refusal)}): name one, sagemaker.bucket=<bucket>."
            ) from refusal


def message_of(error: Exception) -> str:
    """Returns what the service said, with its code."""
    answer = getattr(error, "response", {}).get("Error", {})
    return f"{answer['Code']}: {answer['Message']}" if answer.get("Message") else str(error)
