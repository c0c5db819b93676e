"""What Ray Serve runs of this package: `serve run config.yaml` in its directory."""

import sys
from pathlib import Path

# The code that the model came with wins over any version that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent / "code"))

from ray import serve

from dogbreeds.serve.ray_app import Replica


class Classifier(Replica):
    """A class of this module, so that every process that runs it has been through the lines above."""

    package = Path(__file__).resolve().parent


app = serve.deployment(name="Classifier")(Classifier).bind()
