"""Waiting for containers."""

from __future__ import annotations

import time

from local_sagemaker.serving.ray_container import InferenceContainer

#: More than any machine takes.
SECONDS = 180


def wait_for(container: InferenceContainer) -> None:
    """Waits until a container is ready."""
    deadline = time.monotonic() + SECONDS
    while not container.ready():
        assert time.monotonic() < deadline
        time.sleep(0.1)
