"""What all jobs of a rehearsal share."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dogbreeds.sagemaker.rehearsal.faults import Faults
from dogbreeds.sagemaker.rehearsal.logs import Logs
from dogbreeds.sagemaker.rehearsal.objects import Objects
from dogbreeds.sagemaker.rehearsal.records import Records

#: FailureReason of jobs that were running when their rehearsal ended.
CLOSED = "InternalServerError: the rehearsal ended while this job was running."


class Run(Protocol):
    """A job at work, in a thread of its own."""

    def close(self) -> None:
        """Asks it to end."""

    def join(self) -> None: ...


@dataclass(frozen=True)
class Context:
    """What all jobs share.

    Attributes:
        records: The training jobs.
        toolkit: The command that runs in a training job's container.
        machines: Directory of the jobs' disks.
        url: Where jobs reach the services.
        changed: Guards all records, and is notified of each change.
    """

    records: Records
    objects: Objects
    logs: Logs
    faults: Faults
    toolkit: Sequence[str]
    machines: Path
    url: str
    changed: threading.Condition

    def end(self, runs: Mapping[str, Run]) -> None:
        with self.changed:
            running = list(runs.values())
        for run in running:
            run.close()
        for run in running:
            run.join()
