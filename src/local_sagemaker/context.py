"""What all jobs share."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local_sagemaker.calls import Call, Members, invalid
from local_sagemaker.faults import Faults
from local_sagemaker.logs import Logs
from local_sagemaker.records import Record, Records
from local_sagemaker.s3.objects import Objects

#: FailureReason of jobs that were running when the service ended.
CLOSED = "InternalServerError: the local service ended while this job was running."


class Run(Protocol):
    """A job at work, in a thread of its own; asked to end by a person, with `stop`, or by the service, with `close`."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
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


class Jobs:
    """All jobs of the kind of some records, and those of them that run."""

    def __init__(self, records: Records, context: Context) -> None:
        self._records, self._context = records, context
        self._runs: dict[str, Run] = {}

    def begin(self, record: Record, run: Run) -> Members:
        """Starts a job, and answers its ARN."""
        kind = self._records.kind
        self._runs[record.description[f"{kind}Name"]] = run
        run.start()
        return {f"{kind}Arn": record.description[f"{kind}Arn"]}

    def stop(self, record: Record) -> None:
        """Asks a job to end; one that has ended already stays as it is."""
        kind = self._records.kind
        with self._context.changed:
            if not self._records.ended(record):
                record.description[f"{kind}Status"] = "Stopping"
                self._records.touch(record)
                self._runs[record.description[f"{kind}Name"]].stop()

    def asked_to_stop(self, call: Call, refusal: str) -> Members:
        """Answers the Stop operation; `refusal` is what it says of a job that has ended, with its status put in."""
        kind = self._records.kind
        with self._context.changed:
            record = self._records[call.body[f"{kind}Name"]]
            if self._records.ended(record):
                raise invalid(refusal.format(record.description[f"{kind}Status"]))
            self.stop(record)
        return {}

    def close(self) -> None:
        """Ends all jobs that run."""
        with self._context.changed:
            running = list(self._runs.values())
        for run in running:
            run.close()
        for run in running:
            run.join()
