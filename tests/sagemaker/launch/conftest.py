"""A service with some faults, in this process, and the account in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.sagemaker.session import Account
from local_sagemaker import LocalSageMaker
from tests.local_sagemaker.conftest import FAST_TRAIN, NO_FAULTS
from tests.local_sagemaker.jobs import BUCKET
from tests.sagemaker.conftest import Launch

AccountWith = Callable[..., Account]


@pytest.fixture
def account_with(tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> Iterator[AccountWith]:
    """Opens a service with faults and a bucket; what this machine remembers of jobs is new."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(Account, "poll_seconds", 0.05)
    place = tmp_path / "a place"
    with ExitStack() as stack:

        def opened(**faults: Any) -> Account:
            local = stack.enter_context(LocalSageMaker(place, replace(NO_FAULTS, **faults), toolkit=FAST_TRAIN))
            local.client("s3").create_bucket(Bucket=BUCKET)
            settings = launch("sagemaker=rehearsal", f"sagemaker.bucket={BUCKET}").sagemaker
            return Account(local.session().client, replace(settings, rehearsal_dir=str(place)))

        yield opened


class Interrupting:
    """Clients of an account whose command is left at the n-th request, before it is sent or after it is answered."""

    def __init__(self, client: Callable[..., Any], moment: int, *, after: bool) -> None:
        self._client, self._moment, self._after = client, moment, after
        self._count = itertools.count()

    def __call__(self, service: str, **options: Any) -> Any:
        client = self._client(service, **options)
        events = client.meta.events
        events.register("after-call.*" if self._after else "before-call.*", self._interrupt)
        return client

    def _interrupt(self, **_: Any) -> None:
        if next(self._count) == self._moment:
            raise KeyboardInterrupt
