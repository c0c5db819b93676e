"""The environment that SageMaker gives a program in a job: the only place that reads it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dogbreeds.errors import UserError
from dogbreeds.features.store.segments import SEGMENTS
from dogbreeds.installation import command
from dogbreeds.overrides import hydra_value
from dogbreeds.run_directory import MODEL, MODEL_ARCHIVE
from dogbreeds.sagemaker.protocol.hyperparameters import FEATURES
from dogbreeds.sagemaker.protocol.inputs import channel_of
from dogbreeds.sagemaker.protocol.snapshots import Snapshots
from dogbreeds.schema import TrainConfig, key_types

_CHECKPOINTS = "/opt/ml/checkpoints"
# Where the processes of several instances meet, on the first host.
_PORT = "29500"
#: In model.tar.gz, and so not in output.tar.gz.
OF_THE_MODEL = (MODEL, MODEL_ARCHIVE)


@dataclass(frozen=True)
class JobEnvironment:
    """The environment of a job, by the names of its directories on AWS.

    `channels` are read-only; `model` becomes model.tar.gz, `data` output.tar.gz, and `output` holds the reason of a
    failure. `checkpoints` survives the loss of the instance; it is None where the job keeps no checkpoints.
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
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Reads the environment variables of AWS's toolkit."""
        if "SM_HPS" not in environ:
            raise UserError(f"This program runs in SageMaker jobs: start one with {command('launch')}.")
        named = environ.get("LOCAL_SAGEMAKER_CHECKPOINT_DIR")
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
    def number(self) -> int:
        """Which of the hosts this instance is, from 0."""
        return sorted(self.hosts).index(self.host)

    @property
    def scratch(self) -> Path:
        """A temporary directory, the same for all processes of the job on this instance."""
        return self.output.parent / "dogbreeds"

    @property
    def store(self) -> Path:
        return self.scratch / "features"

    @property
    def work(self) -> Path:
        """The run directory; on the first instance it becomes the output."""
        return self.scratch / "run" if self.number else self.data

    def snapshots(self, task: str) -> Snapshots | None:
        """Returns the snapshots of what a task makes; None where the job keeps no checkpoints."""
        place = self.checkpoints
        if place is not None and task == FEATURES:
            # All hosts keep their checkpoints in the same place.
            return Snapshots(place / f"features-{self.number}", self.store / SEGMENTS)
        return None if place is None else Snapshots(place, self.work, leave_out=OF_THE_MODEL)

    def overrides(self) -> list[str]:
        """Returns the paths of this instance as overrides; they go after those that were sent."""
        here: dict[str, Path] = {"cache.dir": self.store, "run_dir": self.work}
        for name in key_types(TrainConfig):
            if (channel := self.channels.get(channel_of(name))) is not None:
                # A channel that has one file is that file.
                inside = list(channel.iterdir())
                here[name] = inside[0] if len(inside) == 1 and inside[0].is_file() else channel
        return [f"{name}={hydra_value(str(path))}" for name, path in here.items()]


def ddp_environment(hosts: Sequence[str], host: str) -> dict[str, str]:
    """Returns the variables by which Lightning's processes on several instances find each other; none for one."""
    if len(hosts) == 1:
        return {}
    ordered = sorted(hosts)
    nodes = {"NODE_RANK": str(ordered.index(host)), "PL_TRAINER_NUM_NODES": str(len(ordered))}
    return {"MASTER_ADDR": ordered[0], "MASTER_PORT": _PORT, **nodes}
