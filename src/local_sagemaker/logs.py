"""CloudWatch Logs: what jobs and containers of endpoints wrote to stdout and stderr, line by line."""

import threading
import time
from collections.abc import Callable, Mapping

from local_sagemaker.calls import ApiError, Call, Members, Operation
from local_sagemaker.faults import Faults

#: Where SageMaker puts the lines of training jobs.
GROUP = "/aws/sagemaker/TrainingJobs"
#: Of endpoints, each of which has a group of its own.
ENDPOINTS = "/aws/sagemaker/Endpoints/"
# Events of one answer and bytes of one event, unless less is asked for: limits of the service.
_MAX_EVENTS = 10_000
_MAX_EVENT_BYTES = 262_118


class Stream:
    """The lines of one host of a job, or of a container of an endpoint."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[tuple[int, str]] = []
        self.created = _now()

    @property
    def latest(self) -> int:
        """When the last line came, or else when it was begun, in milliseconds since 1970."""
        return self.events[-1][0] if self.events else self.created

    def add(self, message: str) -> None:
        self.events.append((_now(), message[:_MAX_EVENT_BYTES]))


class Logs:
    """All streams by group and name: `<job>/algo-1-<time>` of a job, `<variant>/<instance>` of an endpoint.

    `faults` returns those that are in force.
    """

    def __init__(self, faults: Callable[[], Faults]) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, Stream]] = {}

    def open(self, job: str, host: int = 1) -> Stream:
        """Begins the stream of a host of a job, or goes on with it."""
        with self._lock:
            streams = self._groups.setdefault(GROUP, {})
            known = next((one for name, one in streams.items() if name.startswith(f"{job}/algo-{host}-")), None)
            name = f"{job}/algo-{host}-{int(time.time())}"
            return known or streams.setdefault(name, Stream(name))

    def open_endpoint(self, endpoint: str, stream: str) -> Stream:
        """Begins a stream such as `AllTraffic/i-0123456789abcdef0` of an endpoint, or goes on with it."""
        with self._lock:
            return self._groups.setdefault(ENDPOINTS + endpoint, {}).setdefault(stream, Stream(stream))

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"DescribeLogStreams": self._describe, "GetLogEvents": self._get}

    def _describe(self, call: Call) -> Members:
        body, prefix = call.body, call.body.get("logStreamNamePrefix", "")
        by_time = body.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise ApiError("InvalidParameterException", "Cannot order by LastEventTime with a prefix.")
        streams = [stream for stream in self._of(body.get("logGroupName", "")) if stream.name.startswith(prefix)]
        streams.sort(key=lambda one: (one.latest if by_time else 0, one.name), reverse=body.get("descending", False))
        start = int(body.get("nextToken", "0"))
        end = start + body.get("limit", 50)
        more = {"nextToken": str(end)} if end < len(streams) else {}
        described = [{"logStreamName": one.name, "creationTime": one.created} for one in streams[start:end]]
        return {"logStreams": described, **more}

    def _get(self, call: Call) -> Members:
        body = call.body
        streams = self._of(body.get("logGroupName", ""))
        stream = next((one for one in streams if one.name == body["logStreamName"]), None)
        if stream is None:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        ingested = _now() - 1000 * self._faults().late_logs_seconds
        events = [event for event in list(stream.events) if event[0] <= ingested]
        count, limit = len(events), body.get("limit", _MAX_EVENTS)
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
        chosen = [{"timestamp": moment, "message": message} for moment, message in events[start:end]]
        return {"events": chosen, "nextForwardToken": f"f/{end}", "nextBackwardToken": f"b/{start}"}

    def _of(self, group: str) -> list[Stream]:
        if self._faults().logs_denied:
            raise ApiError("AccessDeniedException", f"You are not authorized to read the log group {group}.")
        with self._lock:
            streams = list(self._groups.get(group, {}).values())
        if not streams:
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        return streams


def _now() -> int:
    return int(time.time() * 1000)
