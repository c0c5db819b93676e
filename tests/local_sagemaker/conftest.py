from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_sagemaker import Faults, LocalSageMaker
from tests.local_sagemaker.jobs import BUCKET

# What is stopped waits in vain for a script that sleeps.
NO_FAULTS = Faults(grace_seconds=0.1)
#: Starts in no time, unlike AWS's toolkit.
FAST_TRAIN = (sys.executable, "-S", str(Path(__file__).with_name("fast_train.py")))

Begin = Callable[..., LocalSageMaker]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Opens a rehearsal with some faults, and a bucket in it; it ends with the test.

    Jobs run under AWS's own toolkit with `toolkit=TRAIN`.
    """
    with ExitStack() as stack:

        def opened(toolkit: Sequence[str] = FAST_TRAIN, **faults: Any) -> LocalSageMaker:
            faulty = replace(NO_FAULTS, **faults)
            local = stack.enter_context(LocalSageMaker(tmp_path / "rehearsal", faulty, toolkit=toolkit))
            local.client("s3").create_bucket(Bucket=BUCKET)
            return local

        yield opened
