"""What makes a package more than files: what Ray Serve and the containers of SageMaker start it by.

The files beside this one are copied into each package. `config.yaml` has the settings of Ray Serve, for a machine
with or without GPUs.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from dogbreeds.files import pack
from dogbreeds.package.package import Description, files_of, read_description

_HERE = Path(__file__).parent
_SOURCE = _HERE.parents[1]
_CONFIG = "config.yaml"
_REQUIREMENTS = "code/requirements.txt"
#: The modules that a package carries, relative to the package `dogbreeds`.
_CODE = (
    "__init__.py",
    "errors.py",
    "files.py",
    "installation.py",
    "version.py",
    "data/__init__.py",
    "data/images.py",
    "data/layout.py",
    "features/__init__.py",
    "features/engines/__init__.py",
    "features/engines/cpu.py",
    "features/engines/cuda.py",
    "features/engines/engine.py",
    "features/engines/reference.py",
    "model/__init__.py",
    "model/names.py",
    "model/backbones.py",
    "model/head.py",
    "model/network.py",
    "model/stages.py",
    "model/weights.py",
    "package/__init__.py",
    "package/messages.py",
    "package/package.py",
    "package/predictor.py",
    "serve/__init__.py",
    "serve/ray_answers.py",
    "serve/ray_app.py",
    "serve/receiving.py",
)


def serving_files(description: Description, *, gpus: int, requirements: bool) -> dict[str, Path | bytes]:
    """Returns the files that a package is served by, under their paths in it: settings and code.

    Args:
        description: Of the package.
        gpus: Of the machine that serves it; each gets a replica of its own.
        requirements: Whether the container may install from the network what its image lacks. That is OpenVINO, which
            serves on processors whatever was not trained with torch itself; without it torch does.
    """
    config = Template((_HERE / _CONFIG).read_text(encoding="utf-8"))
    found: dict[str, Path | bytes] = {
        _CONFIG: config.substitute(replicas=max(1, gpus), gpus=min(1, gpus)).encode(),
        "deployment.py": _SOURCE / "serve" / "deployment.py",
        "code/inference.py": _HERE / "inference.py",
        **{f"code/dogbreeds/{name}": _SOURCE / name for name in _CODE},
    }
    if requirements and not gpus and description.engine != "torch":
        found[_REQUIREMENTS] = _HERE / "requirements.txt"
    return found


def archive_for(package: Path, archive: Path, *, gpus: int, requirements: bool) -> None:
    """Writes the model.tar.gz of a package for a kind of machine.

    Code and settings are those of this version, whatever the package has: an older one is served by them as well.

    Args:
        package: Its directory.
        archive: The file.
        gpus: Of the machine, 0 for one without.
        requirements: Whether it may install from the network what its image lacks.

    Raises:
        PackageError: There is no package, or it is damaged.
    """
    served = serving_files(read_description(package), gpus=gpus, requirements=requirements)
    carried = {name: path for name, path in files_of(package).items() if not name.startswith("code/")}
    # Weights do not compress.
    pack(archive, {**carried, **served}, level=0)
