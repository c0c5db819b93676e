"""CloudWatch Logs: what jobs wrote to stdout and stderr, line by line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.lines import Appender, whole_lines
from dogbreeds.sagemaker.rehearsal.faults import ServiceError
from dogbreeds.sagemaker.rehearsal.http import Call, Operation
from dogbreeds.sagemaker.rehearsal.objects import ACCOUNT

#: Where SageMaker puts the lines of training jobs.
GROUP = "/aws/sagemaker/TrainingJobs"
# Events of one answer and bytes of one event, unless less is asked for: limits of the service.
_MOST_EVENTS = 10_000
_LONGEST_EVENT = 262_118


class Stream:
    """The lines of one host of a job, in a file and in memory."""

    def __init__(self, path: Path, name: str) -> None:
        """Opens a stream, and reads what is in it already."""
        self.name = name
        self.events: list[tuple[int, str]] = [tuple(json.loads(line)) for line in whole_lines(path)]
        self.created = self.events[0][0] if self.events else int(time.time() * 1000)
        self._path = path
        self._file: Appender | None = None

    def add(self, message: str) -> None:
        """Appends a line, with the time."""
        event = (int(time.time() * 1000), message[:_LONGEST_EVENT])
        if self._file is None:
            self._file = Appender(self._path, every=1)
        self._file.add(json.dumps(event))
        self.events.append(event)

    def close(self) -> None:
        """Closes the file; the lines can still be read."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Logs:
    """All streams, by name `<job>/algo-1-<time>`."""

    def __init__(self, directory: Path) -> None:
        """Finds what the directory holds."""
        self._directory = directory
        self._lock = threading.Lock()
        self._streams = {stream.name: stream for path in sorted(directory.glob("*.jsonl")) if (stream := _read(path))}

    def open(self, job: str) -> Stream:
        """Begins the stream of a job's first host, or goes on with it."""
        with self._lock:
            known = next((name for name in self._streams if name.startswith(f"{job}/")), None)
            name = known or f"{job}/algo-1-{int(time.time())}"
            if name not in self._streams:
                self._streams[name] = Stream(self._directory / f"{name.replace('/', '~')}.jsonl", name)
            return self._streams[name]

    def close(self) -> None:
        """Closes all files."""
        for stream in self._streams.values():
            stream.close()

    @property
    def operations(self) -> Mapping[str, Operation]:
        """What can be asked."""
        return {"DescribeLogStreams": self._describe, "GetLogEvents": self._get}

    def _describe(self, call: Call) -> Mapping[str, Any]:
        self._check_group(call.body)
        prefix = call.body.get("logStreamNamePrefix", "")
        with self._lock:
            streams = [stream for name, stream in sorted(self._streams.items()) if name.startswith(prefix)]
        start = int(call.body.get("nextToken", "0"))
        end = start + call.body.get("limit", 50)
        arn = f"arn:aws:logs:{call.region}:{ACCOUNT}:log-group:{GROUP}:log-stream:"
        more = {"nextToken": str(end)} if end < len(streams) else {}
        return {"logStreams": [_summary(stream, arn) for stream in streams[start:end]], **more}

    def _get(self, call: Call) -> Mapping[str, Any]:
        body = call.body
        self._check_group(body)
        with self._lock:
            stream = self._streams.get(body["logStreamName"])
        if stream is None:
            raise ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")
        count, limit = len(stream.events), body.get("limit", _MOST_EVENTS)
        token = body.get("nextToken")
        if token is None:
            start = 0 if body.get("startFromHead") else max(0, count - limit)
            end = start + limit
        elif token[:2] not in ("f/", "b/") or not token[2:].isdecimal():
            raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
        else:
            position = int(token[2:])
            start, end = (position, position + limit) if token[0] == "f" else (max(0, position - limit), position)
        end = min(end, count)
        chosen = [
            {"timestamp": moment, "message": message, "ingestionTime": moment}
            for moment, message in stream.events[start:end]
            if body.get("startTime", 0) <= moment < body.get("endTime", 1 << 62)
        ]
        return {"events": chosen, "nextForwardToken": f"f/{end}", "nextBackwardToken": f"b/{start}"}

    def _check_group(self, body: Mapping[str, Any]) -> None:
        if body.get("logGroupName") != GROUP or not self._streams:
            raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")


def _read(path: Path) -> Stream:
    return Stream(path, path.stem.replace("~", "/"))


def _summary(stream: Stream, arn: str) -> dict[str, Any]:
    found = {"logStreamName": stream.name, "creationTime": stream.created, "arn": f"{arn}{stream.name}"}
    if not stream.events:
        return found
    first, last = stream.events[0][0], stream.events[-1][0]
    return found | {"firstEventTimestamp": first, "lastEventTimestamp": last, "lastIngestionTime": last}
