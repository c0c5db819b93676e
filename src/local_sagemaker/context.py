"""What all jobs share."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local_sagemaker.faults import Faults
from local_sagemaker.logs import Logs
from local_sagemaker.records import Records
from local_sagemaker.s3.objects import Objects

#: FailureReason of jobs that were running when the service ended.
CLOSED = "InternalServerError: the local service ended while this job was running."


class Run(Protocol):
    """A job at work, in a thread of its own."""

    def close(self) -> None:
        """Asks it to end."""

    def join(self) -> None: ...


@dataclass
class Context:
    """What all jobs share.

    `records` are the training jobs, `toolkit` is the command in their containers, `machines` has their disks, and
    their requests to `url` carry `key`. A job keeps the `faults` that it began with. `changed` guards all records,
    and is notified of each change.
    """

    records: Records
    objects: Objects
    logs: Logs
    faults: Faults
    toolkit: Sequence[str]
    machines: Path
    url: str
    key: str
    changed: threading.Condition

    def end(self, runs: Mapping[str, Run]) -> None:
        with self.changed:
            running = list(runs.values())
        for run in running:
            run.close()
        for run in running:
            run.join()
