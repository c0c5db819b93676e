"""Why jobs fail, and what the person who starts the service has to change."""


class LocalSageMakerError(Exception):
    """The service cannot do what it is told; the text says what to do instead."""


class JobFailure(Exception):
    """Why a job fails; the text becomes its FailureReason."""
