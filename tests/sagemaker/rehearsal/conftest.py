from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dogbreeds.sagemaker.rehearsal import Faults, Rehearsal
from tests.sagemaker.rehearsal.jobs import BUCKET

NO_FAULTS = Faults(capacity_errors=0, interrupt_after=None, throttled={}, debugger_closed=False, grace_seconds=3.0)

Begin = Callable[..., Rehearsal]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Opens a rehearsal with some faults, and a bucket in it; it ends with the test."""
    with ExitStack() as stack:

        def opened(**faults: Any) -> Rehearsal:
            rehearsal = stack.enter_context(Rehearsal(tmp_path / "rehearsal", replace(NO_FAULTS, **faults)))
            rehearsal.client("s3").create_bucket(Bucket=BUCKET)
            return rehearsal

        yield opened
