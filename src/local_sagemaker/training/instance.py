"""An instance of a training job: a directory with the layout of /opt/ml, and its code.

The requirements of the code are checked, not installed.
"""

import importlib.metadata
import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from local_sagemaker.calls import JobFailure, Members
from local_sagemaker.context import Context
from local_sagemaker.s3.objects import Objects, split_uri
from local_sagemaker.training.toolkit import BASE_VARIABLE

#: Tells the script where checkpoints go, in place of CheckpointConfig.LocalPath, which would lie outside the job.
CHECKPOINT_VARIABLE = "LOCAL_SAGEMAKER_CHECKPOINT_DIR"
# Addresses of this machine: the toolkit looks up names such as AWS's algo-1 in the network, for up to 15 minutes.
_HOSTS = "127.0.0.{}"
_GROUP = "homogeneousCluster"
# Variables of this process that describe the machine.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SYSTEMROOT")
#: Hyperparameter that says where the code lies.
SUBMIT_DIRECTORY = "sagemaker_submit_directory"
_REQUIREMENTS = "requirements.txt"
_ROOT = "/opt/ml/"


class Instance:
    """The disk of host `number`, from 1, of `count`, which `prepare` empties; `base` is what /opt/ml is on AWS."""

    def __init__(self, directory: Path, number: int, count: int) -> None:
        self.directory, self.number, self._count = directory, number, count
        self.base = directory / "ml"
        self._config, self._scratch = self.base / "input" / "config", directory / "home"
        self.checkpoints, self.model, self.output = (self.base / one for one in ("checkpoints", "model", "output"))
        self.tensors = self.output / "tensors"

    def prepare(self, job: Members, objects: Objects) -> None:
        """Fetches everything that a job needs; raises JobFailure where its code cannot run here."""
        self.remove()
        # Where this directory is missing the toolkit begins to send what the script puts there to S3 itself.
        for path in (self.model, self.output / "data", self.output / "intermediate", self._scratch):
            path.mkdir(parents=True)
        for channel in job.get("InputDataConfig", []):
            target = self.base / "input" / "data" / channel["ChannelName"]
            target.mkdir(parents=True)
            # Each of n hosts gets about 1/n of the objects (S3DataSource).
            every = self._count if _distribution(channel) == "ShardedByS3Key" else 1
            share = slice((self.number - 1) % every, None, every)
            download(objects, channel["DataSource"]["S3DataSource"]["S3Uri"], target, share)
        if "CheckpointConfig" in job:
            self.checkpoints.mkdir()
            download(objects, f"{job['CheckpointConfig']['S3Uri'].rstrip('/')}/", self.checkpoints)
        unpack_code(job, objects, self.base)
        self._write_config(job)

    def environment(self, job: Members, region: str, context: Context) -> dict[str, str]:
        variables = {
            **bare_environment(self._scratch),
            "OMP_NUM_THREADS": "2",
            BASE_VARIABLE: str(self.base),
            "TRAINING_JOB_NAME": job["TrainingJobName"],
            "TRAINING_JOB_ARN": job["TrainingJobArn"],
            **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), region),
            "AWS_ENDPOINT_URL": context.url,
            **dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), context.key),
            "NO_PROXY": "127.0.0.1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if "CheckpointConfig" in job:
            variables[CHECKPOINT_VARIABLE] = str(self.checkpoints)
        if "DebugHookConfig" in job:
            variables["SMDEBUG_CONFIG_FILE_PATH"] = str(self._config / "debughookconfig.json")
        return {**variables, **job.get("Environment", {})}

    def remove(self) -> None:
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def _write_config(self, job: Members) -> None:
        kind = job["ResourceConfig"].get("InstanceType", "local")
        hosts = [_HOSTS.format(number) for number in range(1, self._count + 1)]
        group = {"instance_group_name": _GROUP, "instance_type": kind, "hosts": hosts}
        channels = job.get("InputDataConfig", [])
        filed = {"TrainingInputMode": "File", "RecordWrapperType": "None"}
        files: dict[str, Any] = {
            "hyperparameters": job.get("HyperParameters", {}),
            "resourceconfig": {
                "current_host": hosts[self.number - 1],
                "current_instance_type": kind,
                "current_group_name": _GROUP,
                "hosts": hosts,
                "instance_groups": [group],
                "network_interface_name": "lo",
            },
            "inputdataconfig": {
                one["ChannelName"]: {**filed, "S3DistributionType": _distribution(one)} for one in channels
            },
        }
        if "DebugHookConfig" in job:
            files["debughookconfig"] = job["DebugHookConfig"] | {"LocalPath": str(self.tensors)}
        self._config.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (self._config / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _distribution(channel: Members) -> str:
    return str(channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated"))


def bare_environment(home: Path) -> dict[str, str]:
    """Returns the variables that a container sees whatever runs in it; temporary files go to its home too."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def download(objects: Objects, uri: str, target: Path, share: slice = slice(None)) -> None:
    """Copies the objects under a prefix, or a share of them, into a directory, as File mode does.

    A prefix is no directory: `s3://bucket/photos` also means `s3://bucket/photos2/...`. Paths are relative to the
    prefix where it ends at a slash of the key, otherwise to what stands before its last slash.
    """
    _, prefix = split_uri(uri)
    for key, content in objects.under(uri)[share]:
        rest = key[len(prefix) :]
        if prefix and not prefix.endswith("/") and not rest.startswith("/"):
            rest = key[prefix.rfind("/") + 1 :]
        relative = PurePosixPath(rest.lstrip("/"))
        # Empty objects whose key ends with a slash are what consoles show as folders.
        if key.endswith("/") or ".." in relative.parts:
            continue
        path = target / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.value)


def unpack_code(job: Members, objects: Objects, base: Path) -> None:
    """Unpacks a job's code; raises JobFailure where it cannot, or the code needs what this machine does not have.

    The toolkit would fetch it itself and install its requirements into the environment of this process. It finds the
    code unpacked, and no requirements. `base` is what is /opt/ml on AWS; its channels are there already.
    """
    target = base / "code"
    target.mkdir(parents=True, exist_ok=True)
    uri = job.get("HyperParameters", {}).get(SUBMIT_DIRECTORY)
    if uri is None:
        return
    # Some clients put JSON's quotes around it.
    if uri.startswith('"'):
        uri = json.loads(uri)
    if uri.startswith(_ROOT):
        brought = base / uri.removeprefix(_ROOT)
        archive = brought.read_bytes() if brought.is_file() else None
    elif job["EnableNetworkIsolation"]:
        raise JobFailure(f"ClientError: without a network a job cannot fetch {uri}: bring it by a channel.")
    else:
        archive = objects.find(uri)
    if archive is None:
        raise JobFailure(f"ClientError: {SUBMIT_DIRECTORY} is {uri}, and there is no such object.")
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(target, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise JobFailure(f"ClientError: {uri} cannot be unpacked: {error}") from error
    if (target / "setup.py").exists():
        nothing = "which would be installed: the local service installs nothing."
        raise JobFailure(f"ClientError: {uri} has a setup.py, {nothing}")
    requirements = target / _REQUIREMENTS
    if requirements.exists():
        if missing := "; ".join(unsatisfied(requirements.read_text(encoding="utf-8"))):
            said = f"AlgorithmError: InstallRequirementsError: {_REQUIREMENTS} asks for {missing}."
            raise JobFailure(f"{said} The local service installs nothing: install it into its own environment.")
        shutil.move(requirements, base / _REQUIREMENTS)


def unsatisfied(requirements: str) -> Iterator[str]:
    """Yields what this environment lacks of a requirements file, one phrase for each line that it does not meet."""
    for line in requirements.splitlines():
        text = line.split(" #")[0].strip()
        # Options for pip say where packages come from.
        if not text or text.startswith(("#", "-")):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            yield f"{text}, which cannot be read ({str(error).splitlines()[0]})"
            continue
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{text}, which is not installed here"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{text}, and {version} is installed here"
