"""The actions of scripts/aws.py: makes a bucket and a role for jobs, says what exists, removes what it made.

Both have a tag. What lacks it is used as it is, and neither changed nor removed.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

from rich.filesize import decimal

from dogbreeds.command_schemas import AwsCommandConfig
from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import write_text
from dogbreeds.installation import command
from dogbreeds.overrides import name_of, sets
from dogbreeds.sagemaker.aws_errors import MissingError, aws_errors
from dogbreeds.sagemaker.endpoints.account import Ask, Endpoints
from dogbreeds.sagemaker.endpoints.commands import confirm, running
from dogbreeds.sagemaker.launch.job_handle import running_jobs
from dogbreeds.sagemaker.s3.storage import SCRATCH, UPLOADS
from dogbreeds.sagemaker.s3.transfers import Stored, stored_under
from dogbreeds.sagemaker.session import Account, connected

#: Key of the tag; its value is sagemaker.prefix.
TAG = "dogbreeds:setup"
_MISSING, _OURS, _FOREIGN = "missing", "made by setup", "not made by setup, used as it is"
_POLICY = "dogbreeds"
# DeleteObjects takes so many: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_MAX_DELETED = 1000
# What is left of an upload that broke off is in no list, and costs as files do.
_BROKEN_OFF = {"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}


def run(config: AwsCommandConfig, typed: Sequence[str]) -> str:
    """Runs an action, and returns what to print; the commands in it repeat the overrides that were `typed`.

    Raises:
        UserError: AWS or the person refuses; the same command completes what was begun.
    """
    with connected(config.sagemaker) as account:
        setup = AccountSetup(account, config, typed)
        actions = {"setup": setup.make, "status": setup.status, "teardown": setup.remove}
        return "\n".join(actions[config.action]())


def policy(name: str, account: Account, bucket: str) -> str:
    """Returns one of the policies that docs/sagemaker.md shows, for a bucket of an account."""
    text = (files("dogbreeds.sagemaker") / "policies" / f"{name}.json").read_text(encoding="utf-8")
    key = account.settings.kms_key or ""
    values = {"<key>": key if key.startswith("arn:") else f"arn:aws:kms:<region>:<account>:key/{key}"}
    values |= {"arn:aws:": f"arn:{account.s3.meta.partition}:", "<bucket>": bucket, "<region>": account.region}
    values |= {"<account>": account.identity["Account"], "<prefix>": account.settings.prefix}
    for word, value in values.items():
        text = text.replace(word, value)
    return text


@dataclass(frozen=True)
class AccountSetup:
    """Bucket and role: those of the settings, of an earlier setup, or of the names that setup chooses."""

    account: Account
    config: AwsCommandConfig
    typed: Sequence[str]
    ask: Ask = input

    @property
    def bucket(self) -> str:
        return self.account.settings.bucket or self.account.known.get("bucket") or self._own_bucket

    @property
    def role(self) -> str:
        settings = self.account.settings
        name = settings.role or self.account.known.get("role") or f"{settings.prefix}-sagemaker-{self.account.region}"
        return name.rpartition("/")[2]

    def make(self) -> Iterator[str]:
        """Makes bucket and role, or completes them."""
        account, bucket, role = self.account, self._bucket_state(begun=_OURS), self._role_state()
        holds = f"private, encrypted; code expires after {self.config.scratch_days} days"
        does = {_MISSING: "make     {}: {}", _OURS: "complete {}: {}", _FOREIGN: "use      {}, which is not changed"}
        planned = [
            does[bucket].format(f"bucket {self.bucket}", holds),
            does[role].format(f"role {self.role}", "jobs may use this bucket, write logs and metrics, load images"),
            f"write    {account.known_file}, where launch_sagemaker.py finds both",
        ]
        if (key := account.settings.kms_key) and "alias/" in key and role != _FOREIGN:
            raise ConfigError(f"sagemaker.kms_key={key}: a role's policy takes no alias. Set the key's ID or ARN.")
        self._confirm(f"In account {account.identity['Account']}, {account.where}", planned)
        if bucket != _FOREIGN:
            self._make_bucket()
        arn = self._make_role(role)
        account.known_file.parent.mkdir(parents=True, exist_ok=True)
        known = {"bucket": self.bucket, "role": arn, "endpoint": account.s3.meta.endpoint_url}
        write_text(account.known_file, json.dumps(known, indent=2) + "\n")
        yield f"bucket   {self.bucket}"
        yield f"role     {arn}"
        if role == _MISSING and not account.settings.rehearsal:
            yield "wait     some seconds: AWS takes that long until jobs can use a new role"
        yield f"next     {self._command('launch', 'data.dir=<photos>')}"

    def status(self) -> Iterator[str]:
        """Yields what exists, whose it is, what is missing, and what costs money."""
        account, bucket, role = self.account, self._bucket_state(), self._role_state()
        yield f"account  {account.identity['Account']}, {account.where}, as {account.identity['Arn']}"
        yield f"bucket   {self.bucket}: {bucket}"
        yield f"role     {self.role}: {role}"
        if bucket != _MISSING:
            yield f"storage  {_amount(list(self._objects().values()))}: costs by the GB and month"
        yield running(Endpoints(account))
        for job in running_jobs(account, self.role if role == _OURS else None):
            yield f"running  {job.name}: costs until it ends. Stop it: {job.hint('stop')}"
        if _MISSING in (bucket, role) or not account.known:
            yield f"Not all is there. Make it: {self._command('aws', 'action=setup')}"

    def remove(self) -> Iterator[str]:
        """Removes what setup made; a bucket with results stays, unless they are to go too."""
        account, role = self.account, self._role_state()
        endpoints = Endpoints(account)
        for one in endpoints.ours():
            raise UserError(f"{one['EndpointName']} needs them: {endpoints.command('delete', one['EndpointName'])}")
        if jobs := running_jobs(account, self.role if role == _OURS else None):
            stops = "\n".join(f"  {job.hint('stop')}" for job in jobs)
            raise UserError(f"These jobs need them. Wait until they have ended, or stop them:\n{stops}")
        stored = self._objects() if self._bucket_state() == _OURS else None
        again = tuple(f"{account.settings.prefix}/{folder}/" for folder in (*SCRATCH, *UPLOADS))
        results = [one for key, one in (stored or {}).items() if not key.startswith(again)]
        kept = bool(results) and not self.config.delete_results
        planned: dict[str, Callable[[], None]] = {}
        if role == _OURS:
            planned[f"role {self.role}"] = self._remove_role
        if stored is not None and not kept:
            planned[f"bucket {self.bucket} with {_amount(list(stored.values()))}"] = self._remove_bucket
        # Last: it says what the others are called.
        if account.known_file.is_file():
            planned[str(account.known_file)] = account.known_file.unlink
        if planned:
            self._confirm("This permanently deletes", list(planned))
        else:
            yield "removed  nothing: setup has made nothing here"
        for what, remove in planned.items():
            with aws_errors(f"remove {what}"):
                remove()
            yield f"removed  {what}"
        if kept:
            changed = ("action=teardown", f"sagemaker.bucket={self.bucket}", "delete_results=true")
            yield f"kept     bucket {self.bucket}, for its results, {_amount(results)}."
            yield f"To delete them too: {self._command('aws', *changed)}"

    @property
    def _own_bucket(self) -> str:
        account = self.account
        return f"{account.settings.prefix.lower()}-{account.region}-{account.identity['Account']}"

    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": TAG, "Value": self.account.settings.prefix}]

    def _bucket_state(self, begun: str = _FOREIGN) -> str:
        """Says whose the bucket is; `begun` is one of setup's own name that is empty and has no tags."""
        if not self.account.has_bucket(self.bucket):
            return _MISSING
        with suppress(MissingError), aws_errors(f"read the tags of {self.bucket}"):
            tags = self.account.s3.get_bucket_tagging(Bucket=self.bucket)["TagSet"]
            return _OURS if self._tags()[0] in tags else _FOREIGN
        return begun if self.bucket == self._own_bucket and not self._objects() else _FOREIGN

    def _role_state(self) -> str:
        with suppress(MissingError), aws_errors(f"look up the role {self.role}"):
            found = self.account.client("iam").get_role(RoleName=self.role)["Role"]
            return _OURS if self._tags()[0] in found.get("Tags", []) else _FOREIGN
        return _MISSING

    def _objects(self) -> dict[str, Stored]:
        with aws_errors(f"list {self.bucket}"):
            return stored_under(self.account.s3, self.bucket, "")

    def _make_bucket(self) -> None:
        account, bucket = self.account, {"Bucket": self.bucket}
        if not account.has_bucket(self.bucket):
            account.create_bucket(self.bucket)
        key = account.settings.kms_key
        encrypted = {"SSEAlgorithm": "AES256"} if key is None else {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        after = {"Expiration": {"Days": self.config.scratch_days}}
        rules = [{"Filter": {"Prefix": f"{account.settings.prefix}/{one}/"}, **after} for one in SCRATCH]
        rules = [{"ID": str(number), "Status": "Enabled", **one} for number, one in enumerate([*rules, _BROKEN_OFF])]
        owned = [{"ObjectOwnership": "BucketOwnerEnforced"}]
        default = [{"ApplyServerSideEncryptionByDefault": encrypted}]
        account.block_public_access(self.bucket)
        with aws_errors(f"prepare the bucket {self.bucket}"):
            account.s3.put_bucket_tagging(**bucket, Tagging={"TagSet": self._tags()})
            account.s3.put_bucket_ownership_controls(**bucket, OwnershipControls={"Rules": owned})
            account.s3.put_bucket_encryption(**bucket, ServerSideEncryptionConfiguration={"Rules": default})
            account.s3.put_bucket_lifecycle_configuration(**bucket, LifecycleConfiguration={"Rules": rules})

    def _make_role(self, state: str) -> str:
        name, iam = {"RoleName": self.role}, self.account.client("iam")
        with aws_errors(f"make the role {self.role}"):
            if state == _MISSING:
                trust = policy("trust", self.account, self.bucket)
                iam.create_role(**name, AssumeRolePolicyDocument=trust, Tags=self._tags())
            if state != _FOREIGN:
                document = json.loads(policy("role", self.account, self.bucket))
                if self.account.settings.kms_key is not None:
                    document["Statement"] += json.loads(policy("key", self.account, self.bucket))["Statement"]
                iam.put_role_policy(**name, PolicyName=_POLICY, PolicyDocument=json.dumps(document))
            return str(iam.get_role(**name)["Role"]["Arn"])

    def _remove_role(self) -> None:
        name, iam = {"RoleName": self.role}, self.account.client("iam")
        with suppress(MissingError), aws_errors(f"delete the policy of {self.role}"):
            iam.delete_role_policy(**name, PolicyName=_POLICY)
        iam.delete_role(**name)

    def _remove_bucket(self) -> None:
        keys = [{"Key": key} for key in self._objects()]
        for start in range(0, len(keys), _MAX_DELETED):
            chosen = {"Objects": keys[start : start + _MAX_DELETED], "Quiet": True}
            for failed in self.account.s3.delete_objects(Bucket=self.bucket, Delete=chosen).get("Errors", []):
                raise UserError(f"Cannot delete s3://{self.bucket}/{failed['Key']}: {failed['Message']}.")
        self.account.s3.delete_bucket(Bucket=self.bucket)

    def _command(self, name: str, *changed: str) -> str:
        of_both = [one for one in self.typed if name == "aws" or sets(one, "sagemaker")]
        kept = [shlex.quote(one) for one in of_both if not sets(one, "yes", *map(name_of, changed))]
        return " ".join([command(name), *changed, *kept])

    def _confirm(self, question: str, planned: list[str]) -> None:
        if not self.config.yes:
            confirm(question, planned, self._command("aws", f"action={self.config.action}"), self.ask)


def _amount(stored: list[Stored]) -> str:
    return f"{len(stored):,} files, {decimal(sum(one.size for one in stored))}"
