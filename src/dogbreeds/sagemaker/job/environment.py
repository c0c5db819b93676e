"""What SageMaker puts around a program that runs in a job: the only place that reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.errors import UserError
from dogbreeds.installation import command
from dogbreeds.overrides import hydra_value
from dogbreeds.sagemaker.protocol.inputs import channel_of
from dogbreeds.sagemaker.protocol.snapshots import Snapshots
from dogbreeds.schema import TrainConfig, key_names

_CHECKPOINTS = "/opt/ml/checkpoints"
# Of the first host, where processes on several machines meet.
_PORT = "29500"
# What the archive of the model has.
_OF_THE_MODEL = ("model", "model.tar.gz")


@dataclass(frozen=True)
class Surroundings:
    """What a job has around it.

    Attributes:
        hyperparameters: With their types.
        channels: Where each one's files lie, by its name; they cannot be written to.
        model: Becomes model.tar.gz.
        output: Where the reason of a failure belongs.
        data: Becomes output.tar.gz.
        checkpoints: Is kept when the machine is lost; None where the job has no such directory.
        hosts: The names of its machines.
        host: This one's.
        gpus: That this machine has.
    """

    hyperparameters: Mapping[str, object]
    channels: Mapping[str, Path]
    model: Path
    output: Path
    data: Path
    checkpoints: Path | None
    hosts: tuple[str, ...]
    host: str
    gpus: int

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Surroundings:
        """Reads the environment that AWS's toolkit makes.

        Raises:
            UserError: This is no job.
        """
        if "SM_HPS" not in environ:
            raise UserError(f"This program runs in jobs: start one with {command('launch')}.")
        named = environ.get("DOGBREEDS_CHECKPOINT_DIR")
        checkpoints = Path(named or _CHECKPOINTS)
        channels = json.loads(environ["SM_CHANNELS"])
        return cls(
            hyperparameters=json.loads(environ["SM_HPS"]),
            channels={name: Path(environ[f"SM_CHANNEL_{name.upper()}"]) for name in channels},
            model=Path(environ["SM_MODEL_DIR"]),
            output=Path(environ["SM_OUTPUT_DIR"]),
            data=Path(environ["SM_OUTPUT_DATA_DIR"]),
            checkpoints=checkpoints if named or checkpoints.is_dir() else None,
            hosts=tuple(json.loads(environ["SM_HOSTS"])),
            host=environ["SM_CURRENT_HOST"],
            gpus=int(environ["SM_NUM_GPUS"]),
        )

    @property
    def scratch(self) -> Path:
        """A directory of this machine that goes with the job, the same for all of its processes."""
        return self.output.parent / "dogbreeds"

    @property
    def store(self) -> Path:
        """The feature store of this machine."""
        return self.scratch / "features"

    @property
    def work(self) -> Path:
        """The run directory: what the output is made of, on the machine that makes it."""
        return self.data if self.host == min(self.hosts) else self.scratch / "run"

    def snapshots(self) -> Snapshots | None:
        """Returns what keeps the work of this job.

        Trials of a tuning job may share one place, so each has a directory that is named by what it is to do.
        """
        if self.checkpoints is None:
            return None
        told = json.dumps(dict(self.hyperparameters), sort_keys=True).encode()
        place = self.checkpoints / hashlib.sha256(told).hexdigest()[:16]
        return Snapshots(place, self.work, leave_out=_OF_THE_MODEL)

    def overrides(self) -> list[str]:
        """Returns the places of this machine as overrides: they stand behind those that crossed."""
        here: dict[str, Path] = {"cache.dir": self.store, "run_dir": self.work}
        for name in key_names(TrainConfig):
            channel = self.channels.get(channel_of(name))
            if channel is not None:
                here[name] = _only_file(channel)
        return [f"{name}={hydra_value(str(path))}" for name, path in here.items()]


def _only_file(channel: Path) -> Path:
    """A channel of one file is that file."""
    inside = list(channel.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_file() else channel


def together(hosts: Sequence[str], host: str) -> dict[str, str]:
    """Returns the environment by which Lightning's processes on several machines find each other; none for one.

    Args:
        hosts: The names of the machines.
        host: This one's.
    """
    if len(hosts) == 1:
        return {}
    ordered = sorted(hosts)
    return {
        "MASTER_ADDR": ordered[0],
        "MASTER_PORT": _PORT,
        "NODE_RANK": str(ordered.index(host)),
        "PL_TRAINER_NUM_NODES": str(len(ordered)),
    }
