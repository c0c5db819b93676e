"""Asks a server or an endpoint about many photos: several at a time, in order, and again where it has no time.

A row is what a model that is asked on this machine gives too: the path, and the answer or the error.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_any,
    stop_before_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from dogbreeds.errors import ConfigError, UserError
from dogbreeds.installation import command
from dogbreeds.overrides import override
from dogbreeds.package.messages import BYTES, JSON, from_json
from dogbreeds.serve.answers_file import Row, answered, unanswered

#: From one question to the same again: this often doubled, and this at most.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 20.0
# For a connection, and for an answer: endpoints have 60 s for theirs.
_TIMEOUT_SECONDS = (5.0, 70.0)
_BUSY = (408, 429, 502, 503, 504)
# What a server says of one photo; anything else is wrong with all of them.
_OF_THE_PHOTO = (400, 413, 415, 422, 500)
# So many photos in a row, or all that are asked about at once, in vain: there is nobody any more.
_IN_VAIN = 4


class Busy(Exception):
    """No answer for the moment: the same question later may have one.

    Attributes:
        seconds: How long to wait, as far as was said.
    """

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        """Takes why, and how long to wait."""
        super().__init__(reason)
        self.seconds = seconds


class NoAnswer(Exception):
    """There is no answer for this photo; the text says why."""


class OutOfPatience(UserError):
    """There was no answer in the time that a photo has."""


class Asker(Protocol):
    """Asks about one photo, from several threads.

    Attributes:
        most_bytes: Of a photo; None takes all.
    """

    most_bytes: int | None

    def ask(self, photo: bytes) -> dict[str, Any]:
        """Returns the answer, as `messages.as_json` gives it.

        Raises:
            Busy: There is none for the moment.
            NoAnswer: There is none for this photo.
            UserError: There is none for any photo.
        """


def rows(
    asker: Asker,
    paths: Sequence[Path],
    at_once: int,
    patience: float,
    sleep: Callable[[float], None] | None = None,
) -> Iterator[tuple[Row, bool]]:
    """Yields a row for each photo, in order, and whether it was answered.

    Args:
        asker: Asks about one.
        paths: The photos.
        at_once: How many are asked about at a time.
        patience: Seconds in which a photo must have its answer, however often it takes to ask.
        sleep: Waits; None waits until the time is over, or nobody takes rows any more.

    Raises:
        UserError: Nothing is answered any more; the rows before that have been yielded.
    """
    ended = threading.Event()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="asking")
    waiting: deque[tuple[Path, Future[tuple[Row, bool]]]] = deque()
    left = iter(paths)
    in_vain = 0

    def wait(seconds: float) -> None:
        ended.wait(seconds)

    def begin(count: int) -> None:
        for path in itertools.islice(left, count):
            waiting.append((path, pool.submit(_row, asker, path, patience, sleep or wait, ended)))

    try:
        # As many again wait, so that a slow answer does not stop the others.
        begin(2 * at_once)
        while waiting:
            path, asked = waiting.popleft()
            try:
                found, in_vain = asked.result(), 0
            except OutOfPatience as error:
                in_vain += 1
                if in_vain == max(_IN_VAIN, at_once):
                    raise
                found = unanswered(path, error), False
            yield found
            begin(1)
    finally:
        ended.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _row(
    asker: Asker, path: Path, patience: float, sleep: Callable[[float], None], ended: threading.Event
) -> tuple[Row, bool]:
    try:
        photo = path.read_bytes()
        if asker.most_bytes is not None and len(photo) > asker.most_bytes:
            raise NoAnswer(
                f"The photo has {len(photo):,} bytes, and at most {asker.most_bytes:,} can be sent: make it smaller, "
                "or ask the model on this machine (package=<run>)."
            )
        answer = again(lambda: asker.ask(photo), patience, sleep, ended)
        return answered(path, from_json(answer)), True
    except (OSError, NoAnswer) as error:
        return unanswered(path, error), False
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"The answer for {path} is none of dogbreeds: {str(answer)[:200]}") from error


def again(
    ask: Callable[[], Any],
    patience: float,
    sleep: Callable[[float], None] = time.sleep,
    ended: threading.Event | None = None,
) -> Any:
    """Asks until there is an answer, with pauses that get longer and are never the same for all who wait.

    Args:
        ask: Asks once.
        patience: Seconds after which it is given up.
        sleep: Waits.
        ended: Once it is set nobody wants an answer any more.

    Raises:
        OutOfPatience: There was none in that time.
    """
    pauses = wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        return max(pauses(state), error.seconds if isinstance(error, Busy) else 0.0)

    stop = stop_any(stop_before_delay(patience), stop_when_event_set(ended or threading.Event()))
    trying = Retrying(retry=retry_if_exception_type(Busy), wait=pause, stop=stop, sleep=sleep, reraise=True)
    try:
        return trying(ask)
    except Busy as error:
        raise OutOfPatience(
            f"No answer in {patience:g} s ({error}). Ask less at a time (at_once=1), or wait longer "
            f"({override('patience_seconds', f'{10 * patience:g}')})."
        ) from error


class Server:
    """A server of `scripts/serve.py`, or anything that answers as it does."""

    most_bytes: int | None = None

    def __init__(self, url: str, connections: int) -> None:
        """Finds out whether it is there.

        Args:
            url: Such as `http://127.0.0.1:8080`.
            connections: As many as there are threads that ask.

        Raises:
            ConfigError: `url` is none.
            UserError: Nobody answers there.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ConfigError(f"url={url} is none ({error}): such as url=http://127.0.0.1:8080.") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"url={url}: must begin with http:// or https://, such as url=http://127.0.0.1:8080.")
        self._url = url.rstrip("/")
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=connections))
        try:
            self._session.get(f"{self._url}/ping", timeout=_TIMEOUT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            self._session.close()
            raise UserError(
                f"url={url}: nobody answers there ({_why(error)}). Start a server with: {command('serve')} "
                "package=<run>"
            ) from error

    def ask(self, photo: bytes) -> dict[str, Any]:
        """Asks about one photo."""
        try:
            response = self._session.post(
                f"{self._url}/invocations",
                data=photo,
                headers={"Content-Type": BYTES, "Accept": JSON},
                timeout=_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Busy(_why(error)) from error
        if response.status_code in _BUSY:
            raise Busy(said(response.text, response.status_code), _seconds(response.headers.get("Retry-After", "")))
        if response.status_code in _OF_THE_PHOTO:
            raise NoAnswer(said(response.text, response.status_code))
        if response.status_code != 200:
            raise UserError(
                f"{self._url}/invocations answers with {said(response.text, response.status_code)}: is it a "
                "server of dogbreeds?"
            )
        return answer_of(response.content)

    def close(self) -> None:
        """Ends its connections."""
        self._session.close()


def answer_of(body: bytes) -> dict[str, Any]:
    """Reads an answer.

    Raises:
        UserError: It is no JSON object.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UserError(f"The answer is none of dogbreeds: {body[:200]!r}")
    return answer


def said(body: str, status: int) -> str:
    """Returns what a refusal says, or the status where it says nothing that is understood."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {status} {body[:200]}".rstrip()


def _seconds(text: str) -> float:
    # A date, which the header can be too, is left to the pauses.
    return float(text) if text.isdecimal() else 0.0


def _why(error: Exception) -> str:
    """Returns what is behind the layers of a failed request."""
    while error.__context__ is not None and isinstance(error.__context__, Exception):
        error = error.__context__
    return str(error) or type(error).__name__
