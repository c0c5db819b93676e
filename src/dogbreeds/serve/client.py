"""Sends many photos to a server or an endpoint: several at a time, in order, with retries where it is busy.

The rows are those of a package on this machine: the path, and the prediction or the error.
"""

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import requests
import tenacity
from requests.adapters import HTTPAdapter

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.package.messages import BYTES, JSON, from_json
from dogbreeds.serve.answers_file import Row, error_row, prediction_row

# The pause before a retry doubles from the first to the second.
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.5, 20.0
# To connect, and to read a response: endpoints have 60 s for theirs.
_TIMEOUT_SECONDS = (5.0, 70.0)
#: Statuses of a server that may answer the same request later.
BUSY = (408, 429, 502, 503, 504)
# Statuses that concern one photo; any other means that no photo will do.
_PER_PHOTO_STATUS = (400, 413, 415, 422, 500)
# Photos in a row without a response, or as many as are sent at once if that is more: the server is gone.
_MAX_FAILURES = 4


class Busy(Exception):
    """A temporary refusal; the same request may succeed later, after `seconds` where the server says so."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class PredictionFailed(Exception):
    """There is no prediction for this photo; the text says why."""


class RetriesExhausted(UserError):
    """The server stayed busy for too long."""


class PredictClient(Protocol):
    """Sends photos of at most `max_bytes` (None is no limit) to a server; several threads use it."""

    max_bytes: int | None

    def predict(self, photo: bytes) -> dict[str, Any]:
        """Returns the predictions for one photo, as `messages.as_json` gives them.

        Raises:
            Busy: Not at the moment.
            PredictionFailed: Not for this photo.
            UserError: Not for any photo.
        """


def rows(client: PredictClient, paths: Sequence[Path], at_once: int, patience: float) -> Iterator[tuple[Row, bool]]:
    """Yields a row for each photo, in order, and whether it has a prediction.

    Nobody waits any more when the caller stops taking rows.

    Args:
        at_once: Photos sent at a time.
        patience: Seconds in which a photo must have its prediction, retries included.

    Raises:
        UserError: The server is gone, or refuses all photos; the rows before that have been yielded.
    """
    ended = threading.Event()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="predict")
    begun = ((path, pool.submit(_row, client, path, patience, ended)) for path in paths)
    failures = 0
    try:
        # As many again are queued, so that a slow response does not hold up the others.
        waiting = deque(itertools.islice(begun, 2 * at_once))
        while waiting:
            path, row = waiting.popleft()
            try:
                found, failures = row.result(), 0
            except RetriesExhausted as error:
                failures += 1
                if failures == max(_MAX_FAILURES, at_once):
                    raise
                found = error_row(path, error), False
            yield found
            waiting.extend(itertools.islice(begun, 1))
    finally:
        ended.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _row(client: PredictClient, path: Path, patience: float, ended: threading.Event) -> tuple[Row, bool]:
    try:
        photo, most = path.read_bytes(), client.max_bytes
        if most is not None and len(photo) > most:
            said = f"The photo has {len(photo):,} bytes; at most {most:,} can be sent. Make it smaller, or"
            raise PredictionFailed(f"{said} use the package on this machine (package=<package>).")
        response = retry(lambda: client.predict(photo), patience, ended)
        return prediction_row(path, photo, from_json(response)), True
    except (OSError, PredictionFailed) as error:
        return error_row(path, error), False
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"The response for {path} is not a dogbreeds response: {str(response)[:200]}") from error


def retry(send: Callable[[], Any], patience: float, ended: threading.Event | None = None) -> Any:
    """Calls `send` until it is not `Busy`, with random pauses that grow, for `patience` seconds or until `ended`."""
    ended = ended or threading.Event()
    pauses = tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_MAX_PAUSE_SECONDS)

    def pause(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(pauses(state), error.seconds if isinstance(error, Busy) else 0.0)

    stop = tenacity.stop_before_delay(patience) | tenacity.stop_when_event_set(ended)
    busy = tenacity.retry_if_exception_type(Busy)
    sleep = tenacity.sleep_using_event(ended)
    trying = tenacity.Retrying(retry=busy, wait=pause, stop=stop, sleep=sleep, reraise=True)
    try:
        return trying(send)
    except Busy as error:
        said = f"No response in {patience:g} s ({error}). Send fewer at a time (at_once=1), or wait longer"
        raise RetriesExhausted(f"{said} ({override('patience_seconds', f'{10 * patience:g}')}).") from error


class Server:
    """Sends photos to `scripts/serve.py`, or to any server with the same interface."""

    max_bytes: int | None = None

    def __init__(self, url: str, connections: int) -> None:
        """Checks that it responds."""
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"url={url}: must begin with http:// or https://, such as url=http://127.0.0.1:8080.")
        self._url = url.rstrip("/")
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections))
        try:
            self._session.get(f"{self._url}/ping", timeout=_TIMEOUT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            self._session.close()
            said = f"url={url}: no server responds there ({_why(error)})."
            raise UserError(f"{said} Start one with: {command('serve')} package=<run>") from error

    def predict(self, photo: bytes) -> dict[str, Any]:
        asked, headers = f"{self._url}/invocations", {"Content-Type": BYTES, "Accept": JSON}
        try:
            response = self._session.post(
                asked, photo, headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise Busy(_why(error)) from error
        if response.status_code == 200:
            return parse_response(response.content)
        message = error_message(response.text, response.status_code)
        if response.status_code in BUSY:
            # The header can also be a date, which is ignored.
            seconds = response.headers.get("Retry-After", "")
            raise Busy(message, float(seconds) if seconds.isdecimal() else 0.0)
        if response.status_code in _PER_PHOTO_STATUS:
            raise PredictionFailed(message)
        raise UserError(f"{self._url}/invocations responds with {message}: is it a dogbreeds server?")

    def close(self) -> None:
        self._session.close()


def parse_response(body: bytes) -> dict[str, Any]:
    try:
        response = json.loads(body)
    except ValueError:
        response = None
    if not isinstance(response, dict):
        raise UserError(f"This is not a dogbreeds response: {body[:200]!r}")
    return response


def error_message(body: str, status: int) -> str:
    """Returns the message of an error response, or its status where there is none."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {status} {body[:200]}".rstrip()


def _why(error: Exception) -> str:
    """Returns the root cause of a failed request."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__
