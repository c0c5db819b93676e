"""Disks and GPUs of SageMaker's instance types, as far as requests depend on them.

Source: https://aws.amazon.com/ec2/instance-types/ (accelerated computing).
"""

from __future__ import annotations

import re

# Instances with local NVMe disks, which the hardware encrypts: the service refuses a key for them.
_LOCAL_DISKS = re.compile(r"ml\.(g\d|p[4-9]|trn\d|[a-z]+\d[a-z]*d)")
_GPU = re.compile(r"ml\.(g[4-9]|p\d)")
# All other instances of these families have one GPU.
_SEVERAL_GPUS = {
    re.compile(r"ml\.g4dn\.(12xlarge|metal)"): 4,
    re.compile(r"ml\.g(5|6|6e)\.(12|24)xlarge"): 4,
    re.compile(r"ml\.g(5|6|6e)\.48xlarge"): 8,
    re.compile(r"ml\.g7e?\.12xlarge"): 2,
    re.compile(r"ml\.g7e?\.24xlarge"): 4,
    re.compile(r"ml\.g7e?\.48xlarge"): 8,
    re.compile(r"ml\.p(4d|4de|5|5e|5en|6-b200|6-b300)\.(24|48)xlarge"): 8,
}
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.|ml\.p6e-gb")
_OWN_CHIPS = re.compile(r"ml\.(trn|inf|dl)\d")
_OLD_GPUS = re.compile(r"ml\.p[23](dn)?\.")


def has_local_disks(instance: str) -> bool:
    """Says whether an instance has its own disks, whose size and key cannot be set."""
    return _LOCAL_DISKS.match(instance) is not None


def gpus(instance: str) -> int:
    """Returns the number of GPUs of an instance; 1 for unknown sizes of GPU families."""
    several = next((count for pattern, count in _SEVERAL_GPUS.items() if pattern.fullmatch(instance)), 1)
    return several if _GPU.match(instance) else 0


def why_not_served(instance: str) -> str | None:
    """Returns why AWS's serving image cannot run on an instance; None where it can."""
    if _ARM.match(instance):
        return "has an ARM processor, but the serving image is for x86"
    if _OWN_CHIPS.match(instance):
        return "has AWS's own processor, which plain PyTorch cannot use"
    if _OLD_GPUS.match(instance):
        return "has a GPU that this PyTorch no longer supports"
    return None
