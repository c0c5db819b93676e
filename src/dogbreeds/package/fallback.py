"""What becomes of the answers of an int8 package on machines that cannot run it in int8."""

from dataclasses import replace
from pathlib import Path

import torch

from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.package.examples import DIRECTORY, load_examples
from dogbreeds.package.package import write_description
from dogbreeds.package.predictor import Predictor


def compare_fallback(package: Path, cache: BlobCache) -> None:
    """Writes into model.json how many of the package's examples get another breed from the trunk in floats."""
    quantised = Predictor.load(package, torch.device("cpu"), cache, one_by_one=False)
    description, photos = quantised.description, load_examples(package)
    plain = replace(description, precision=description.int8["instead"])
    floats = Predictor(plain, quantised.network, quantised.device, cache, one_by_one=False)
    contents = [(package / DIRECTORY / photo.file).read_bytes() for photo in photos]
    pairs = zip(quantised.predict(contents), floats.predict(contents), strict=True)
    differing = sum(one[0].index != other[0].index for one, other in pairs)
    description.int8 |= {"examples": len(photos), "differing": differing}
    write_description(package, description)
