"""What a server takes from its clients; free of other imports, because packages carry it to Ray Serve."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dogbreeds.errors import ConfigError


@dataclass
class RequestLimits:
    """Limits on requests, wherever the application runs.

    Attributes:
        body_bytes: Of one request.
        held_bytes: Of the bodies of all open requests, as received; decoded pixels take more.
        pixels: Of one photo, and of all photos of a request together; each worker holds up to 16 bytes of each.
        photos: Per request.
        waiting: Photos in the queue.
        per_client: Open requests of one client address; None is no limit.
        receive_seconds: For the body of a request.
        answer_seconds: From the last byte of the body to the answer. A worker that takes longer counts as stuck.
    """

    body_bytes: int
    held_bytes: int
    pixels: int
    photos: int
    waiting: int
    per_client: int | None
    receive_seconds: float
    answer_seconds: float

    def __post_init__(self) -> None:
        """Refuses limits that no server can keep.

        Raises:
            ConfigError: A limit is not positive, or two contradict each other.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ConfigError(f"limits.{field.name}={value}: must be more than 0.")
        if self.held_bytes < self.body_bytes:
            raise ConfigError(
                f"limits.held_bytes={self.held_bytes} is below limits.body_bytes={self.body_bytes}: not even one "
                "request fits. Raise the former or lower the latter."
            )
        if self.waiting < self.photos:
            raise ConfigError(
                f"limits.waiting={self.waiting} is below limits.photos={self.photos}: a full request never fits "
                "into the queue. Raise the former or lower the latter."
            )


@dataclass
class Limits(RequestLimits):
    """The settings `limits` of serve.yaml, where their defaults are: those above, and what the server itself refuses.

    Attributes:
        header_bytes: Of one request, its first line included.
        connections: Open at once.
        receive_seconds: From a connection to complete headers, and again for the body.
    """

    header_bytes: int
    connections: int
