"""The Ray Serve application of this package: `serve run config.yaml` in its directory."""

import sys
from pathlib import Path
from typing import Any

# The code that the model came with takes precedence over any installed version.
sys.path.insert(0, str(Path(__file__).resolve().parent / "code"))

from ray import serve

from dogbreeds.serve.ray_app import Replica, replica_application


class Classifier(Replica):
    """A class of this module, so that every process that loads it has run the lines above."""

    package = Path(__file__).resolve().parent


def app(limits: dict[str, Any]) -> Any:
    """Builds the application with the `args` of config.yaml."""
    return serve.deployment(name="Classifier")(serve.ingress(replica_application)(Classifier)).bind(limits)
