"""A service on this machine in place of AWS: it refuses what AWS refuses, and really runs the jobs."""

from dogbreeds.sagemaker.rehearsal.faults import Faults
from dogbreeds.sagemaker.rehearsal.service import REGION, Rehearsal, clear

__all__ = ["REGION", "Faults", "Rehearsal", "clear"]
