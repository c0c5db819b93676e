"""The trunk in int8 for OpenVINO: quantised after training, on a fixed choice of photos."""

import contextlib
import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Self

from torch import Tensor

from dogbreeds.data.images import DECODING
from dogbreeds.data.splits import Photo, spread
from dogbreeds.data.transform import read_all
from dogbreeds.errors import DataError, EngineError
from dogbreeds.features.engines.cpu import convert, import_openvino, kept, serialized
from dogbreeds.features.extract import read_photo
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.backbones import Trunk
from dogbreeds.model.network import Graph

log = logging.getLogger(__name__)

_PHOTOS = 128


@dataclass(frozen=True)
class Calibration:
    """The photos whose activations give int8 its ranges: digests, each with a file that holds its bytes."""

    files: Mapping[str, Path]

    @classmethod
    def of(cls, photos: Sequence[Photo]) -> Self:
        """Chooses from the training photos, from every class in turn and by their bytes alone, as all machines do."""
        ordered = sorted(photos, key=lambda photo: (photo.digest, photo.label))
        distinct = list({photo.digest: photo for photo in ordered}.values())
        return cls({photo.digest: photo.path for photo in spread(distinct, _PHOTOS)})

    @cached_property
    def digest(self) -> str:
        """Names the photos and the version of NNCF, which together decide what a trunk becomes."""
        return hashlib.sha256(f"{version('nncf')} {sorted(self.files)}".encode()).hexdigest()[:16]


def quantise(trunk: Trunk, calibration: Calibration, cache: BlobCache | None) -> Graph:
    """Returns a trunk in int8, made now or taken from the cache: the same photos give the same features.

    Raises:
        DataError: None of the photos can be read, or one has changed.
        EngineError: NNCF cannot quantise this trunk.
    """

    def quantised() -> Graph:
        log.info("quantising %s on %d photos", trunk.name, len(calibration.files))
        contents = [read_photo(path, digest) for digest, path in sorted(calibration.files.items())]
        images = [image for image in read_all(contents, trunk.transform) if isinstance(image, Tensor)]
        if not images:
            raise DataError("features.precision=int8: none of the training photos that it needs can be read.")
        graph = convert(trunk.layers, trunk.fingerprint, trunk.transform, cache)
        return _quantised(graph, images)

    made_by = f"{import_openvino().get_version()} {calibration.digest}"
    return kept(cache, "int8", f"{trunk.fingerprint} {trunk.transform} {DECODING} {made_by}", quantised)


def _quantised(graph: Graph, images: Sequence[Tensor]) -> Graph:
    # After OpenVINO, whose import switches the telemetry off that NNCF would use too.
    network = import_openvino().Core().read_model(model=graph.structure, weights=graph.weights)
    # It says that there is no CUDA compiler, which nothing here needs.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf

    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset([image[None].numpy() for image in images])
    try:
        # It draws bars on the terminal, of which the last one stays.
        with contextlib.redirect_stdout(io.StringIO()):
            quantised = nncf.quantize(network, dataset, subset_size=len(images), fast_bias_correction=False)
    except Exception as error:
        # Networks have operations that it does not know, in many ways.
        said = f"features.precision=int8: this trunk cannot be quantised ({error})."
        raise EngineError(f"{said} Use features.precision=bf16.") from error
    return serialized(quantised)
