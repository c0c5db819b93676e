"""The model package: a directory with everything that serving needs; model.tar.gz holds the same.

`model.json` describes it and `model.safetensors` holds the weights. The archive adds `code/`, the modules that read
both, and `config.yaml` and `deployment.py` for Ray Serve. Loading needs torch, torchvision, safetensors and Pillow,
and nothing that only training uses.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError, PackageError
from dogbreeds.features.engines.reference import resolve_precision
from dogbreeds.files import json_text, reading, replacing, write_text
from dogbreeds.model.backbones import architecture, cut
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.names import DESCRIPTION
from dogbreeds.model.network import Graph, Network
from dogbreeds.version import __version__

FORMAT = 5
WEIGHTS = "model.safetensors"
#: The trunk in int8, in packages that have one.
INT8 = ("trunk.xml", "trunk.bin")
#: The attributes of a `Network`.
PARTS = ("trunk", "tail", "head")


@dataclass
class Description:
    """The content of model.json.

    Attributes:
        classes: Folder names; a prediction's index is a position in this list.
        unfreeze: The first trained stage, or None.
        engine: The one that ran the trunk in training: `openvino`, `cuda` or `torch`.
        precision: The trunk's precision: `fp32`, `bf16` or `int8`.
        temperature: Divides the logits, so that probabilities are calibrated.
        library: Of the backbone; for this, `pool`, `weights` and `licence` see `Backbone`, empty where unknown.
        mirror: Whether features are the mean over an image and its mirror image.
        metrics: The scores in the run's metrics.json.
        versions: Of this project, torch and torchvision when the package was made.
        photos: Number in each split of the run; empty where unknown.
        made: The UTC date of the run, as 2026-11-22; empty where unknown.
        int8: Of the trunk in int8: the SHA-256 `digest` over its files, the precision `instead` where it cannot run
            (`bf16` or `fp32`), and how many of the `examples` are `differing` then in their breed; else empty.
        known: The `method` that scores how much a photo looks like the breeds, and the `threshold` below which it shows
            none of them; empty in packages of formats before 5.
    """

    classes: list[str]
    backbone: str
    pretrained: bool
    unfreeze: str | None
    transform: Transform
    head: HeadShape
    engine: str
    precision: str
    temperature: float
    library: str = "torchvision"
    pool: str = "head"
    mirror: bool = False
    weights: str = ""
    licence: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    photos: dict[str, int] = field(default_factory=dict)
    made: str = ""
    int8: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)

    def precision_by(self, engine: str) -> str:
        """Returns the precision in which an engine runs the trunk."""
        replaced = self.precision == "int8" and engine != "openvino"
        return str(self.int8.get("instead", "bf16")) if replaced else self.precision

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Description:
        # Null says of any other entry that it is not there.
        known = {name: value for name, value in values.items() if value is not None or name == "unfreeze"}
        del known["format"]
        known["transform"] = Transform.from_json(known["transform"])
        known["head"] = HeadShape(**known["head"])
        return cls(**known)


def save_package(directory: Path, description: Description, network: Network) -> None:
    """Writes a package; `directory` appears only when it is complete."""
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    description.versions = {
        "dogbreeds": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }
    save_state(partial / WEIGHTS, network, PARTS)
    if network.int8 is not None:
        for name, content in zip(INT8, (network.int8.structure, network.int8.weights), strict=True):
            (partial / name).write_bytes(content)
        instead = resolve_precision("auto", torch.device("cpu"))
        description.int8 = {"digest": network.int8.digest, "instead": instead}
    write_description(partial, description)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


def save_state(path: Path, network: Network, parts: Sequence[str]) -> None:
    """Writes the weights of some parts of a network as safetensors, whole or not at all."""
    state = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part in parts
        for name, tensor in getattr(network, part).state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(state, temporary)
        # safetensors makes files private to their owner; weights are meant to be shared.
        temporary.chmod(0o644)


def load_state(path: Path, network: Network, parts: Sequence[str]) -> None:
    """Loads what `save_state` wrote into a network of the same shape."""
    state = load_file(path)
    for part in parts:
        # A mapped file is not aligned as torch's own memory is, which changes the last bits of the logits.
        own = {name.removeprefix(f"{part}."): t.clone() for name, t in state.items() if name.startswith(f"{part}.")}
        getattr(network, part).load_state_dict(own, strict=True, assign=True)


def write_description(directory: Path, description: Description) -> None:
    write_text(directory / DESCRIPTION, json_text(description.to_json()) + "\n")


def load_package(directory: Path) -> tuple[Description, Network]:
    """Reads a package.

    Raises:
        PackageError: There is no package, it is damaged, or a newer version made it.
    """
    description = read_description(directory)
    try:
        network = _outline(description)
    except (ConfigError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise PackageError(
            f"{directory / DESCRIPTION} describes a network that this version cannot build: backbone="
            f"{description.backbone} of {description.library}, unfreeze={description.unfreeze}, "
            f"head={description.head.kind}: {error}"
        ) from error
    try:
        load_state(directory / WEIGHTS, network, PARTS)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise PackageError(f"package={directory}: {WEIGHTS} is missing or damaged ({reason}).") from error
    if description.int8:
        network = replace(network, int8=_load_int8(directory, description.int8.get("digest")))
    for module in (network.trunk, network.tail, network.head):
        module.eval().requires_grad_(False)
    return description, network


def _load_int8(directory: Path, digest: str | None) -> Graph:
    names = " and ".join(INT8)
    try:
        graph = Graph(*((directory / name).read_bytes() for name in INT8))
    except OSError as error:
        raise PackageError(f"package={directory}: {names} cannot be read ({error}).") from error
    if graph.digest != digest:
        raise PackageError(f"package={directory}: {names} are damaged, or of another package.")
    return graph


def _outline(description: Description) -> Network:
    transform = description.transform
    stages = architecture(description.backbone, library=description.library, pool=description.pool, side=transform.crop)
    trunk, tail = cut(stages, transform, description.unfreeze, mirror=description.mirror)
    return Network(trunk, tail, Head(description.head))


def read_description(directory: Path) -> Description:
    """Reads the description of a package without its weights."""
    path = directory / DESCRIPTION
    if not path.is_file():
        raise PackageError(f"package={directory} is not a model package: it has no {DESCRIPTION}.")
    with reading(path, PackageError):
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] > FORMAT:
            raise PackageError(f"package={directory} was made by a newer version of dogbreeds: update this one.")
        return Description.from_json(values)
