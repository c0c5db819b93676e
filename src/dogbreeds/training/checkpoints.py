"""Checkpoints that a run can be resumed from, whatever became of the newest one."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pickle
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.files import read_json, replacing, write_text
from dogbreeds.run_directory import CHECKPOINTS
from dogbreeds.training.datamodule import BreedDataModule

log = logging.getLogger(__name__)

LAST, _PREVIOUS = "last.ckpt", "previous.ckpt"
# How torch says that a file is cut short, or something else.
_DAMAGE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and keeps the one before the last."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Torch itself may abort the process where a disk is full.
        saved = io.BytesIO()
        torch.save(checkpoint, saved)
        with replacing(path) as temporary:
            temporary.write_bytes(saved.getbuffer())
            if path.name == LAST and path.exists():
                path.replace(path.with_name(_PREVIOUS))


def newest(run_dir: Path, start: SameStart) -> Path | None:
    """Returns the newest checkpoint that can be read; None where there is none.

    Raises:
        UserError: There are some, and none can be read; or they are of a run with another start.
    """
    directory = run_dir / CHECKPOINTS
    found = [path for path in (directory / LAST, directory / _PREVIOUS) if path.is_file()]
    for path in found:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except _DAMAGE as error:
            log.warning("%s is damaged: %s", path, str(error).partition("\n")[0])
        else:
            start.check(content["callbacks"].get(start.state_key, {}))
            return path
    if found:
        typed = " ".join(shlex.quote(str(path)) for path in found)
        raise UserError(f"No checkpoint can be read. To train from the first epoch, type rm {typed} and resume again.")
    return None


class SameStart(Callback):
    """Notes in the checkpoint which photos and weights a run was begun with; a resumed run must have them again."""

    def __init__(self, data: BreedDataModule) -> None:
        folders = data.folders
        photos = [[(photo.label, photo.digest) for photo in split] for split in folders.splits.values()]
        digest = hashlib.sha256(json.dumps([folders.classes, photos]).encode()).hexdigest()
        self._known = {"data.dir": digest, "model.weights": data.features.weights}
        if data.calibration is not None:
            self._known["features.precision"] = data.calibration.digest

    def state_dict(self) -> dict[str, Any]:
        return dict(self._known)

    def keep(self, file: Path) -> None:
        """Checks what a file has, or writes it where there is none."""
        if file.is_file():
            self.check(read_json(file))
        else:
            write_text(file, json.dumps(self._known, indent=1) + "\n")

    def check(self, before: Mapping[str, str]) -> None:
        """Raises where a run was begun with something else; those of older versions do not know."""
        for name, known in self._known.items():
            if before.get(name, known) != known:
                place = f"Name the place that has that, {name}=<place>"
                advice = "Install the nncf of then" if name == "features.precision" else place
                said = f"{name}: what is there now is not what this was begun with."
                raise ConfigError(f"{said} {advice}, or start anew.")
