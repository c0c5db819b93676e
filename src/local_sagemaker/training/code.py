"""The code of a job: fetched and unpacked; its requirements are checked, not installed."""

import importlib.metadata
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from local_sagemaker.calls import JobFailure, Members
from local_sagemaker.s3.objects import Objects

#: Hyperparameter that says where the code lies.
SUBMIT_DIRECTORY = "sagemaker_submit_directory"
_REQUIREMENTS = "requirements.txt"
_ROOT = "/opt/ml/"


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
