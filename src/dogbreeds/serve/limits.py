"""What a server takes from its clients, and how long it is patient with them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dogbreeds.errors import ConfigError


@dataclass
class Limits:
    """The settings `limits` of conf/scripts/serve.yaml, where their defaults are.

    Attributes:
        body_bytes: Of one request.
        held_bytes: Of all requests that are being received or answered, as they came; pixels are more.
        header_bytes: Of one request, its first line included.
        pixels: Of one photo, and of all photos of a request together; each lane at work holds up to 16 bytes of each.
        photos: Of one request.
        waiting: Photos that wait for a lane.
        connections: Open at once.
        per_client: Requests that one client address has open at once; None is no limit.
        receive_seconds: From a connection, or a later request's first byte, to complete headers; then once more to
            the body's last byte.
        answer_seconds: From the body's last byte to the answer. A lane that takes longer is taken for stuck.
    """

    body_bytes: int
    held_bytes: int
    header_bytes: int
    pixels: int
    photos: int
    waiting: int
    connections: int
    per_client: int | None
    receive_seconds: float
    answer_seconds: float

    def __post_init__(self) -> None:
        """Refuses what no server can keep to.

        Raises:
            ConfigError: A limit is not positive, or two contradict each other.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ConfigError(f"limits.{field.name}={value}: must be more than 0.")
        if self.held_bytes < self.body_bytes:
            raise ConfigError(
                f"limits.held_bytes={self.held_bytes} has no room for one request of "
                f"limits.body_bytes={self.body_bytes}: raise it, or lower the other."
            )
        if self.waiting < self.photos:
            raise ConfigError(
                f"limits.waiting={self.waiting} has no room for one request of limits.photos={self.photos} photos: "
                "raise it, or lower the other."
            )
