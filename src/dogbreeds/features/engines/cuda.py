"""The trunk on an NVIDIA GPU, as a recorded graph.

Photos are decoded by Pillow, as everywhere: nvJPEG's pixels differ from Pillow's by more than bf16 changes.
"""

import copy
import logging
import threading

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from dogbreeds.data.images import Transform
from dogbreeds.features.engines.reference import as_stored

log = logging.getLogger(__name__)

_BATCH_SIZE = 128
# cuDNN chooses its kernels in the first passes, which must not be recorded.
_WARM_UP_PASSES = 3


class _Cast(nn.Module):
    """Normalised floats to the trunk's number type, channels last."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        return images.to(self.dtype, memory_format=torch.channels_last)


class CudaEngine:
    """Runs a frozen trunk as a CUDA graph over batches of one size; the last batch is padded.

    Workers copy on streams of their own while the forward pass of another one runs.
    """

    name = "cuda"

    def __init__(
        self,
        trunk: nn.Module,
        transform: Transform,
        device: torch.device,
        precision: str,
        batch_size: int | None,
        workers: int,
    ) -> None:
        """Folds BatchNorm in a copy of the trunk and records its forward pass on the device; see `build`."""
        self.precision, self.batch_size, self.workers = precision, batch_size or _BATCH_SIZE, workers
        self.device = device
        self._turn = threading.Lock()
        self._streams = threading.local()
        # Kept, because the graph replays the addresses of its weights and does not keep them alive.
        self._network = _prepare(trunk, torch.bfloat16 if precision == "bf16" else torch.float32).to(device)
        shape = (self.batch_size, 3, transform.crop, transform.crop)
        self._images = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._graph, self._features = _record(self._network, self._images, exact=precision == "fp32")

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
                    # Moved before this worker's turn, so that no other one waits for the transfer.
                    part = part.pin_memory().to(self.device, non_blocking=True)
                with self._turn:
                    self._images[: len(part)].copy_(part)
                    self._graph.replay()
                    features = as_stored(self._features[: len(part)]).clone()
                    # The next worker writes into the same buffers.
                    stream.synchronize()
                parts.append(features.cpu())
        return torch.cat(parts)

    def _stream(self) -> torch.cuda.Stream:
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)
        stream: torch.cuda.Stream = self._streams.own
        return stream


def _prepare(trunk: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Returns a copy with BatchNorm folded into convolutions and weights of one number type."""
    network = copy.deepcopy(trunk).cpu().eval()
    first, normalise = next(network.named_children())
    # uint8 is normalised in float32: bf16 cannot hold the mean.
    network.set_submodule(first, nn.Identity())
    _fold_batch_norm(network)
    network.to(dtype).to(memory_format=torch.channels_last)
    network.set_submodule(first, nn.Sequential(normalise, _Cast(dtype)))
    return network


def _fold_batch_norm(module: nn.Module) -> None:
    """Replaces every BatchNorm that alone takes what a convolution gives by new weights of that convolution."""
    try:
        nodes = fx.symbolic_trace(module).graph.nodes
    except Exception as error:
        # Trunks that cannot be traced, such as transformers, have no BatchNorm to fold.
        log.debug("nothing folded: %s", error)
        return
    layers = {node: module.get_submodule(node.target) for node in nodes if node.op == "call_module"}
    for node, layer in layers.items():
        before = node.args[0]
        convolution = layers.get(before)
        if isinstance(layer, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            module.set_submodule(before.target, fuse_conv_bn_eval(convolution, layer))
            module.set_submodule(node.target, nn.Identity())


@torch.inference_mode()
def _record(network: nn.Module, images: Tensor, *, exact: bool) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """Returns a graph and the memory of its result; `exact` forbids rounding float32 products to TF32.

    The graph refers to the weights of the network and to `images` by address alone: the caller keeps both.
    """
    stream = torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    kernels = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not exact)
    with torch.cuda.stream(stream), kernels:
        for _ in range(_WARM_UP_PASSES):
            network(images)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            features: Tensor = network(images)
    return graph, features
