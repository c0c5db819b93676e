"""The replica class of a package under Ray Serve, which answers with the same application as `scripts/serve.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from dogbreeds.serve.app import Application


class Replica:
    """One copy of the model; Ray gives each a process of its own. A subclass names the directory of the package.

    Ray builds an application in a process that answers nothing, so the slow imports wait for the first replica.
    """

    package: ClassVar[Path]
    application: ClassVar[Application]

    def __init__(self, limits: dict[str, Any]) -> None:
        """Loads the package; `limits` are the `args` of config.yaml, as `dogbreeds.limits.RequestLimits` has them."""
        from PIL import Image

        from dogbreeds.limits import RequestLimits
        from dogbreeds.package.predictor import Predictor
        from dogbreeds.serve.app import Application

        checked = RequestLimits(**limits)
        # This process does nothing else.
        Image.MAX_IMAGE_PIXELS = checked.pixels
        Replica.application = Application(Predictor.load(self.package), checked, wait_for_engine=True)

    def check_health(self) -> None:
        """Lets Ray replace a replica whose engine has failed or is stuck."""
        error = Replica.application.batcher.unavailable
        if error is not None and error.code == "dead":
            raise RuntimeError(error.message)


def replica_application() -> Application:
    """Returns the application of this process's replica, for `ray.serve.ingress`."""
    return Replica.application
