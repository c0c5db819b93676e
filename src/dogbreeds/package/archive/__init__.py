"""Makes the model.tar.gz of a package: its files, and what Ray Serve and the containers of SageMaker start.

`config.yaml` has the settings of Ray Serve, for a machine with or without GPUs; `code.txt` lists the modules that an
archive carries, relative to the package `dogbreeds`.
"""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template

from dogbreeds.files import pack
from dogbreeds.package.package import read_description

_HERE = Path(__file__).parent
_SOURCE = _HERE.parents[1]


def archive_for(package: Path, archive: Path, *, gpus: int, requirements: bool) -> None:
    """Writes the model.tar.gz of a package for a kind of machine.

    Code and settings are those of this version, so that it serves older packages too.

    Args:
        gpus: Of the serving machine; each gets a replica of its own.
        requirements: Whether the container may install what its image lacks from the network. That is OpenVINO, which
            serves on processors unless the model was trained with the engine `torch`; without it, torch serves. And
            timm where the backbone comes from there; without it, nothing serves.
    """
    description = read_description(package)
    paths = {path.relative_to(package).as_posix(): path for path in package.rglob("*") if path.is_file()}
    config = Template((_HERE / "config.yaml").read_text(encoding="utf-8"))
    code = (_HERE / "code.txt").read_text(encoding="utf-8").split()
    members: dict[str, Path | bytes] = {
        **{name: path for name, path in paths.items() if not name.startswith(("code/", "__pycache__/"))},
        "config.yaml": config.substitute(replicas=max(1, gpus), gpus=min(1, gpus)).encode(),
        "deployment.py": _SOURCE / "serve" / "deployment.py",
        **{f"code/dogbreeds/{name}": _SOURCE / name for name in code},
    }
    wanted = {"openvino.txt": not gpus and description.engine != "torch", "timm.txt": description.library == "timm"}
    texts = [(_HERE / name).read_text(encoding="utf-8") for name, needed in wanted.items() if needed]
    if requirements and texts:
        members["code/requirements.txt"] = "".join(map(_as_installed, texts)).encode()
    # Weights do not compress.
    pack(archive, members, level=0)


def _as_installed(requirements: str) -> str:
    """Replaces the range of a library by the version here, which instances that start later install too."""
    try:
        return re.sub(r"(?m)^([\w-]+)[~>]=.*", lambda found: f"{found[1]}=={version(found[1])}", requirements)
    except PackageNotFoundError:
        return requirements
