"""The Ray Serve application of a package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response


class Replica:
    """What a deployment has one or more of.

    Ray builds an application in a process that answers nothing, so what takes seconds to import comes with the
    first replica.

    Attributes:
        package: The directory of the package, which a class for that package names.
    """

    package: ClassVar[Path]

    def __init__(self) -> None:
        """Loads the package.

        Raises:
            PackageError: There is none, or it is damaged.
        """
        from dogbreeds.serve.ray_answers import Answers

        self._answers = Answers(self.package)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Takes the limits that stand in config.yaml, at the start and whenever they change there.

        Raises:
            TypeError: There is no limit of such a name, or one is missing.
        """
        from dogbreeds.serve.ray_answers import ReplicaLimits

        self._answers.limit(ReplicaLimits(**user_config))

    async def check_health(self) -> None:
        """Lets Ray replace a replica that is stuck.

        Raises:
            RuntimeError: This one is.
        """
        self._answers.check_health()

    async def __call__(self, request: Request) -> Response:
        """Answers a request, or says why not."""
        return await self._answers(request)
