"""A service on this machine in place of AWS: it refuses what AWS refuses, and really runs the jobs."""

from local_sagemaker.calls import LocalSageMakerError
from local_sagemaker.client import connect, running, stop
from local_sagemaker.faults import Faults
from local_sagemaker.service import LocalSageMaker

__all__ = ["Faults", "LocalSageMaker", "LocalSageMakerError", "connect", "running", "stop"]
