"""What a run or a benchmark ran on, and with."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

_CPU_FEATURES = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
_PACKAGES = ("dogbreeds", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "openvino", "hydra-core")


def machine() -> dict[str, str]:
    """Returns what the machine is, as far as speed depends on it."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"processor": _processor(), "cores": str(torch.get_num_threads()), "GPU": device}


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that results can depend on."""
    return {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in path.read_text().partition("\n\n")[0].splitlines())
    values = {name.strip(): value.strip() for name, _, value in lines}
    features = [name for name in _CPU_FEATURES if name in values.get("flags", "").split()]
    return f"{values.get('model name', platform.machine())} ({', '.join(features)})"


@contextmanager
def compute_threads(count: int) -> Iterator[None]:
    """Lets torch use `count` threads inside.

    One thread is best for many small products: a second one gains little, and on a busy machine the two wait for
    each other a hundred times longer than they compute.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
