"""The trunk on an NVIDIA GPU: JPEGs decoded there, one recorded graph per forward pass."""

from __future__ import annotations

import copy
import io
import logging
import threading
from collections.abc import Sequence

import torch
from PIL import ExifTags, Image
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from dogbreeds.data.images import Transform, UnreadableImageError, has_too_many_pixels, read_all
from dogbreeds.features.engines.reference import as_stored

log = logging.getLogger(__name__)

_BATCH_SIZE = 128
# Whole photos are large: lanes and batches of the decoder are as few as keep the GPU at work.
_MOST_LANES = 4
_DECODED_AT_ONCE = 32
# cuDNN chooses its kernels in the first passes, which must not be recorded.
_WARM_UP = 3
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_UPRIGHT = 1


class _Cast(nn.Module):
    """Normalised floats to the trunk's number type, channels last."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        return images.to(self.kind, memory_format=torch.channels_last)


class CudaEngine:
    """Runs a frozen trunk as a CUDA graph over batches of one size.

    Lanes decode, resize and copy on streams of their own while another lane's forward pass runs. The last batch
    is padded, as a graph has one size.
    """

    name = "cuda"

    def __init__(
        self,
        trunk: nn.Module,
        transform: Transform,
        device: torch.device,
        precision: str,
        batch_size: int | None,
        lanes: int,
    ) -> None:
        """Moves a copy of the trunk to the device, folds its BatchNorm, and records the forward pass.

        Args:
            trunk: Takes uint8 (N, 3, H, W).
            transform: Gives the size of the images.
            device: A CUDA device.
            precision: `fp32` or `bf16`.
            batch_size: Images per forward pass.
            lanes: Threads that call.
        """
        self.precision, self.batch_size, self.lanes = precision, batch_size or _BATCH_SIZE, min(lanes, _MOST_LANES)
        self.device = device
        self._turn = threading.Lock()
        self._streams = threading.local()
        network = _prepare(trunk, torch.bfloat16 if precision == "bf16" else torch.float32).to(device)
        shape = (self.batch_size, 3, transform.crop, transform.crop)
        self._images = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._graph, self._features = _record(network, self._images, exact=precision == "fp32")

    def read(self, contents: Sequence[bytes], transform: Transform) -> list[Tensor | UnreadableImageError]:
        """Decodes photos on the GPU, and with Pillow those that it cannot take."""
        result: list[Tensor | UnreadableImageError] = []
        with torch.cuda.stream(self._stream()):
            for start in range(0, len(contents), _DECODED_AT_ONCE):
                result += self._read(contents[start : start + _DECODED_AT_ONCE], transform)
                # nvJPEG has a stream of its own: it must not get the memory of photos that are still being resized,
                # and whoever takes the results works on yet another one.
                self._stream().synchronize()
        return result

    def _read(self, contents: Sequence[bytes], transform: Transform) -> list[Tensor | UnreadableImageError]:
        result: list[Tensor | UnreadableImageError] = []
        for content, image in zip(contents, _decode(contents, self.device), strict=True):
            if image is not None:
                result.append(_resize(image, transform))
                continue
            (read,) = read_all([content], transform)
            result.append(read.to(self.device) if isinstance(read, Tensor) else read)
        return result

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, ...) on the CPU for uint8 images (N, 3, H, W)."""
        stream = self._stream()
        # The images were put together on the caller's.
        stream.wait_stream(torch.cuda.current_stream(self.device))
        parts = []
        with torch.cuda.stream(stream):
            for part in images.split(self.batch_size):
                if part.device.type == "cpu":
                    # Moved before this lane's turn, so that no other lane waits for the transfer.
                    part = part.pin_memory().to(self.device, non_blocking=True)
                with self._turn:
                    self._images[: len(part)].copy_(part)
                    self._graph.replay()
                    features = as_stored(self._features[: len(part)]).clone()
                    # The next lane writes into the same buffers.
                    stream.synchronize()
                parts.append(features.cpu())
        return torch.cat(parts)

    def _stream(self) -> torch.cuda.Stream:
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)
        stream: torch.cuda.Stream = self._streams.own
        return stream


def _prepare(trunk: nn.Module, kind: torch.dtype) -> nn.Module:
    """Returns a copy with BatchNorm folded into convolutions and weights of one number type."""
    normalise, *stages = copy.deepcopy(trunk).cpu().eval().children()
    rest: nn.Module = nn.Sequential(*stages)
    try:
        rest = fuse(rest)
    except Exception as error:
        # Trunks that cannot be traced, such as transformers, have no BatchNorm to fold.
        log.debug("nothing folded: %s", error)
    # uint8 is normalised in float32: bf16 cannot hold the mean.
    return nn.Sequential(normalise, _Cast(kind), rest.to(kind).to(memory_format=torch.channels_last)).eval()


@torch.inference_mode()
def _record(network: nn.Module, images: Tensor, *, exact: bool) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Returns a graph and the memory of its result; `exact` forbids rounding float32 products to TF32."""
    stream = torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    kernels = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not exact)
    with torch.cuda.stream(stream), kernels:
        for _ in range(_WARM_UP):
            network(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            features: Tensor = network(images)
    return graph, features


def _decode(contents: Sequence[bytes], device: torch.device) -> list[Tensor | None]:
    """Returns RGB pixels (3, H, W) on the device; None for what nvJPEG should not or cannot take."""
    result: list[Tensor | None] = [None] * len(contents)
    plain = [position for position, content in enumerate(contents) if _is_plain_jpeg(content)]
    raw = [torch.frombuffer(bytearray(contents[position]), dtype=torch.uint8) for position in plain]
    if not raw:
        return result
    try:
        decoded = decode_jpeg(raw, mode=ImageReadMode.RGB, device=device)
    except RuntimeError:
        decoded = [_decode_one(one, device) for one in raw]
    for position, image in zip(plain, decoded, strict=True):
        result[position] = image
    return result


def _decode_one(raw: Tensor, device: torch.device) -> Tensor | None:
    try:
        image: Tensor = decode_jpeg(raw, mode=ImageReadMode.RGB, device=device)
    except RuntimeError:
        return None
    return image


def _is_plain_jpeg(content: bytes) -> bool:
    """Whole, upright, and gray or colour: what nvJPEG decodes as Pillow does."""
    if not content.startswith(_JPEG_START) or not content.rstrip(b"\0").endswith(_JPEG_END):
        return False
    try:
        with Image.open(io.BytesIO(content)) as image:
            upright = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) == _UPRIGHT
            # Adobe's RGB, which is stored without a change of colours, is easily taken for the usual YCbCr.
            usual = image.mode in ("RGB", "L") and image.info.get("adobe_transform") != 0
            return upright and usual and not has_too_many_pixels(image)
    except Exception:
        # Pillow says later what is wrong with it.
        return False


def _resize(image: Tensor, transform: Transform) -> Tensor:
    resized = F.resize(image, [transform.resize], InterpolationMode(transform.interpolation), antialias=True)
    pixels: Tensor = F.center_crop(resized, [transform.crop, transform.crop])
    return pixels
