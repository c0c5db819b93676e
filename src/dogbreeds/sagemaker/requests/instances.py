"""What the types of SageMaker's machines have in them, as far as requests depend on it."""

from __future__ import annotations

import re

# Instances with disks of their own. Those are encrypted by the hardware, and the service refuses a key for them.
_LOCAL_DISKS = re.compile(r"ml\.(g\d|p[4-9]|trn\d|[a-z]+\d[a-z]*d)")
_GPU = re.compile(r"ml\.(g[4-9]|p\d)")
# Of the rest of these families an instance has one.
_SEVERAL_GPUS = {
    re.compile(r"ml\.g4dn\.(12xlarge|metal)"): 4,
    re.compile(r"ml\.g(5|6|6e)\.(12|24)xlarge"): 4,
    re.compile(r"ml\.g(5|6|6e)\.48xlarge"): 8,
    re.compile(r"ml\.p(4d|4de|5|5e|5en|6-b200|6-b300)\.(24|48)xlarge"): 8,
}
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.|ml\.p6e-gb")
_OWN_CHIPS = re.compile(r"ml\.(trn|inf|dl)\d")
_OLD_GPUS = re.compile(r"ml\.p[23](dn)?\.")


def has_local_disks(instance: str) -> bool:
    """Says whether an instance brings its disks, whose size and key nobody chooses."""
    return _LOCAL_DISKS.match(instance) is not None


def gpus(instance: str) -> int:
    """Returns how many GPUs an instance has, as AWS lists them; at least those."""
    several = next((count for pattern, count in _SEVERAL_GPUS.items() if pattern.fullmatch(instance)), 1)
    return several if _GPU.match(instance) else 0


def why_not_served(instance: str) -> str | None:
    """Says why AWS's serving image cannot run on an instance; None where it can."""
    if _ARM.match(instance):
        return "has an ARM processor, and the serving image is for x86"
    if _OWN_CHIPS.match(instance):
        return "has a processor of AWS's own, which PyTorch as it is cannot use"
    if _OLD_GPUS.match(instance):
        return "has a GPU that this PyTorch has no code for any more"
    return None
