"""The system sampler: what the machine does while a run lasts, measured from a thread of its own."""

from dogbreeds.debug.system.percentiles import Percentiles, usage_percentiles
from dogbreeds.debug.system.sampler import SystemSampler

__all__ = ["Percentiles", "SystemSampler", "usage_percentiles"]
