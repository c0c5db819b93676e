"""Disks and GPUs of SageMaker's instance types, as far as requests depend on them.

Source, where no other is named: https://aws.amazon.com/ec2/instance-types/ (accelerated computing), November 2026.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import yaml

# Local NVMe disks are encrypted by the hardware, and the service refuses a key for them:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
_LOCAL_DISKS = re.compile(r"ml\.(g\d|p[4-9]|trn\d|[a-z]+\d[a-z]*d)")
_GPU = re.compile(r"ml\.(g[4-9]|p\d)")
_SEVERAL_GPUS: Mapping[str, int] = yaml.safe_load(Path(__file__).with_name("gpus.yaml").read_bytes())
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.|ml\.p6e-gb")
# Processors of AWS, which have images of their own.
_OWN_CHIPS = re.compile(r"ml\.(trn|inf|dl)\d")
# CUDA 13 has no code for them.
_OLD_GPUS = re.compile(r"ml\.p[23](dn)?\.")


def has_local_disks(instance: str) -> bool:
    """Says whether an instance has its own disks, whose size and key cannot be set."""
    return _LOCAL_DISKS.match(instance) is not None


def gpus(instance: str) -> int:
    """Returns the number of GPUs of an instance, as SageMaker's SDK knows it or our table; 1 for unknown sizes."""
    if not _GPU.match(instance):
        return 0
    # Takes seconds to import, which instances without a GPU have no use for.
    from sagemaker.core.instance_types_gpu_info import retrieve

    # The region that has all types.
    if known := retrieve("us-east-1").get(instance):
        return int(known["Count"])
    return next((count for pattern, count in _SEVERAL_GPUS.items() if re.fullmatch(pattern, instance)), 1)


def why_not_run(instance: str) -> str | None:
    """Returns why AWS's images of PyTorch cannot run on an instance; None where they can."""
    if _ARM.match(instance):
        return "has an ARM processor, but this image is for x86"
    if _OWN_CHIPS.match(instance):
        return "has AWS's own processor, which plain PyTorch cannot use"
    if _OLD_GPUS.match(instance):
        return "has a GPU that this PyTorch no longer supports"
    return None
