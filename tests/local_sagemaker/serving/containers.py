"""Waiting for containers."""

from __future__ import annotations

import time

from local_sagemaker.serving.ray_container import InferenceContainer
from tests.local_sagemaker.jobs import PATIENCE_SECONDS


def wait_for(container: InferenceContainer) -> None:
    """Waits until a container is ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not container.ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
