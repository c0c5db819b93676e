"""CloudWatch Logs: what jobs and containers of endpoints wrote to stdout and stderr, line by line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dogbreeds.files import Appender, whole_lines
from dogbreeds.sagemaker.rehearsal.faults import ApiError
from dogbreeds.sagemaker.rehearsal.http import Call, Operation

#: Where SageMaker puts the lines of training jobs.
GROUP = "/aws/sagemaker/TrainingJobs"
#: Of endpoints, each of which has a group of its own.
ENDPOINTS = "/aws/sagemaker/Endpoints/"
# Events of one answer and bytes of one event, unless less is asked for: limits of the service.
_MAX_EVENTS = 10_000
_FOLDER = "endpoints"
_MAX_EVENT_BYTES = 262_118


class Stream:
    """The lines of one host of a job, in a file and in memory."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.events: list[tuple[int, str]] = [tuple(json.loads(line)) for line in whole_lines(path)]
        self._created = int(time.time() * 1000)
        self._path = path
        self._file: Appender | None = None

    @property
    def latest(self) -> int:
        """When the last line came, or else when it was begun, in milliseconds since 1970."""
        return self.events[-1][0] if self.events else self._created

    def add(self, message: str) -> None:
        event = (int(time.time() * 1000), message[:_MAX_EVENT_BYTES])
        if self._file is None:
            self._file = Appender(self._path, every=1)
        self._file.add(json.dumps(event))
        self.events.append(event)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Logs:
    """All streams by group and name: `<job>/algo-1-<time>` of a job, `<variant>/<instance>` of an endpoint."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._groups = {GROUP: _streams_in(directory)}
        for folder in sorted((directory / _FOLDER).glob("*/")):
            self._groups[ENDPOINTS + folder.name] = _streams_in(folder)

    def open(self, job: str) -> Stream:
        """Begins the stream of a job's first host, or goes on with it."""
        with self._lock:
            streams = self._groups[GROUP]
            known = next((name for name in streams if name.startswith(f"{job}/")), None)
            return _opened(streams, self._directory, known or f"{job}/algo-1-{int(time.time())}")

    def open_endpoint(self, endpoint: str, stream: str) -> Stream:
        """Begins a stream such as `AllTraffic/i-0123456789abcdef0` of an endpoint, or goes on with it."""
        with self._lock:
            streams = self._groups.setdefault(ENDPOINTS + endpoint, {})
            return _opened(streams, self._directory / _FOLDER / endpoint, stream)

    def close(self) -> None:
        for streams in self._groups.values():
            for stream in streams.values():
                stream.close()

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"DescribeLogStreams": self._describe, "GetLogEvents": self._get}

    def _describe(self, call: Call) -> Mapping[str, Any]:
        group = call.body.get("logGroupName", "")
        prefix = call.body.get("logStreamNamePrefix", "")
        by_time = call.body.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise ApiError("InvalidParameterException", "Cannot order by LastEventTime with a prefix.")
        streams = [stream for stream in self._of(group) if stream.name.startswith(prefix)]
        streams.sort(
            key=lambda each: (each.latest if by_time else 0, each.name), reverse=call.body.get("descending", False)
        )
        start = int(call.body.get("nextToken", "0"))
        end = start + call.body.get("limit", 50)
        more = {"nextToken": str(end)} if end < len(streams) else {}
        return {"logStreams": [{"logStreamName": stream.name} for stream in streams[start:end]], **more}

    def _get(self, call: Call) -> Mapping[str, Any]:
        body = call.body
        streams = self._of(body.get("logGroupName", ""))
        stream = next((one for one in streams if one.name == body["logStreamName"]), None)
        if stream is None:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        count, limit = len(stream.events), body.get("limit", _MAX_EVENTS)
        token = body.get("nextToken")
        if token is None:
            start = 0 if body.get("startFromHead") else max(0, count - limit)
            end = start + limit
        elif token[:2] not in ("f/", "b/") or not token[2:].isdecimal():
            raise ApiError("InvalidParameterException", "The specified nextToken is invalid.")
        else:
            position = int(token[2:])
            start, end = (position, position + limit) if token[0] == "f" else (max(0, position - limit), position)
        end = min(end, count)
        chosen = [{"timestamp": moment, "message": message} for moment, message in stream.events[start:end]]
        return {"events": chosen, "nextForwardToken": f"f/{end}", "nextBackwardToken": f"b/{start}"}

    def _of(self, group: str) -> list[Stream]:
        with self._lock:
            streams = list(self._groups.get(group, {}).values())
        if not streams:
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        return streams


def _streams_in(folder: Path) -> dict[str, Stream]:
    names = {path.stem.replace("~", "/"): path for path in sorted(folder.glob("*.jsonl"))}
    return {name: Stream(path, name) for name, path in names.items()}


def _opened(streams: dict[str, Stream], folder: Path, name: str) -> Stream:
    if name not in streams:
        streams[name] = Stream(folder / f"{name.replace('/', '~')}.jsonl", name)
    return streams[name]
