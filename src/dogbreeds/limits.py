"""What a server takes from its clients; free of heavy imports, because packages carry it to Ray Serve."""

from dataclasses import dataclass
from typing import Annotated

from dogbreeds.constraints import above
from dogbreeds.errors import ConfigError


@dataclass
class RequestLimits:
    """Limits on requests, wherever the application runs: `limits` in conf/serve.yaml and an archive's config.yaml.

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

    body_bytes: Annotated[int, above(0)]
    held_bytes: Annotated[int, above(0)]
    pixels: Annotated[int, above(0)]
    photos: Annotated[int, above(0)]
    waiting: Annotated[int, above(0)]
    per_client: Annotated[int | None, above(0)]
    receive_seconds: Annotated[float, above(0)]
    answer_seconds: Annotated[float, above(0)]

    def __post_init__(self) -> None:
        for room, needed in (("held_bytes", "body_bytes"), ("waiting", "photos")):
            least = f"limits.{needed}={getattr(self, needed)}"
            if getattr(self, room) < getattr(self, needed):
                said = f"must be at least {least}, or no such request fits."
                raise ConfigError(f"limits.{room}={getattr(self, room)}: {said}")


@dataclass
class Limits(RequestLimits):
    """What a server on this machine refuses: the limits above, and its own.

    Attributes:
        header_bytes: Of one request, its first line included.
        connections: Open at once.
        receive_seconds: From a connection to complete headers, and again for the body.
    """

    header_bytes: Annotated[int, above(0)]
    connections: Annotated[int, above(0)]
