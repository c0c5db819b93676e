"""Faults that can be injected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from local_sagemaker.calls import LocalSageMakerError


@dataclass(frozen=True)
class Faults:
    """What the service does worse than AWS on a good day, so that nobody meets it on AWS for the first time.

    Attributes:
        capacity_errors: Number of training jobs to fail with a CapacityError.
        interrupt_after: Seconds of training after which a Spot job loses an instance, once; it restarts from its
            checkpoints. None never.
        interrupt_on: Text of a log line at which a Spot job loses an instance, once; None never.
        throttled: By operation, the number of first calls to answer with ThrottlingException; of S3, which has no
            names for them, by `s3`.
        expired: By operation, the number of first calls to answer with ExpiredTokenException.
        lost_answers: By operation, the number of first calls that are done, and whose connection breaks before the
            answer.
        late_logs_seconds: Until a line of a log can be read.
        logs_denied: Nobody may read logs.
        foreign_buckets: Names of buckets that belong to another account, which lets everybody in.
        debugger_closed: The account has no SageMaker Debugger.
        grace_seconds: From the signal that stops a job to the one that kills it; AWS leaves 120.
    """

    capacity_errors: int = 0
    interrupt_after: float | None = None
    interrupt_on: str | None = None
    throttled: Mapping[str, int] = field(default_factory=dict)
    expired: Mapping[str, int] = field(default_factory=dict)
    lost_answers: Mapping[str, int] = field(default_factory=dict)
    late_logs_seconds: float = 0.0
    logs_denied: bool = False
    foreign_buckets: Sequence[str] = ()
    debugger_closed: bool = False
    grace_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuses values of another type, which come from people who type them."""
        for name in ("throttled", "expired", "lost_answers"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not all(isinstance(count, int) for count in given.values()):
                raise LocalSageMakerError(f"{name}={given}: takes counts by operation, {{CreateTrainingJob: 2}}.")
        for name in ("capacity_errors", "interrupt_after", "late_logs_seconds", "grace_seconds"):
            if not isinstance(given := getattr(self, name), int | float | None):
                raise LocalSageMakerError(f"{name}={given}: must be a number.")
