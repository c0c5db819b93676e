"""What all jobs of a rehearsal share."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from dogbreeds.sagemaker.rehearsal.faults import Faults
from dogbreeds.sagemaker.rehearsal.logs import Logs
from dogbreeds.sagemaker.rehearsal.objects import Objects
from dogbreeds.sagemaker.rehearsal.records import Records

#: FailureReason of jobs that were running when their rehearsal ended.
CLOSED = "InternalServerError: the rehearsal ended while this job was running."


@dataclass(frozen=True)
class Premises:
    """Where jobs run.

    Attributes:
        records: The training jobs.
        objects: All buckets.
        logs: All log streams.
        faults: What goes wrong.
        machines: Directory of the jobs' disks.
        url: Where jobs reach the services.
        changed: Guards all records, and is notified of each change.
    """

    records: Records
    objects: Objects
    logs: Logs
    faults: Faults
    machines: Path
    url: str
    changed: threading.Condition
