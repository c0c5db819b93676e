"""The system sampler: what the machine does while a run lasts, measured from a thread of its own."""

from dogbreeds.debug.system.sampler import SystemSampler
from dogbreeds.debug.system.statistics import UsageStatistic, statistics_of

__all__ = ["SystemSampler", "UsageStatistic", "statistics_of"]
