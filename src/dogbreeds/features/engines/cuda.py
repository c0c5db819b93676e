"""The trunk on an NVIDIA GPU, as recorded graphs.

Photos are decoded by Pillow, as everywhere: nvJPEG, as TorchCodec and torchvision call it, does not interpolate
colours, and its pixels differ from Pillow's by more than bf16 changes.
"""

import copy
import logging
import threading
from collections.abc import Collection

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from dogbreeds.data.transform import Transform
from dogbreeds.features.engines.reference import as_stored

log = logging.getLogger(__name__)

_BATCH_SIZE = 128
# Of photos that come one by one, a few do not wait for the arithmetic of a whole batch.
_SMALL_SIZES = (32, 8, 1)
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
    """Runs a frozen trunk as a CUDA graph over batches of one size, or of the smallest that fits; they are padded.

    Graphs of different sizes may run different kernels, so that there the last bits of an image's features depend on
    how many came with it. A pass for the store has one size, and its features depend on nothing else.

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
        *,
        one_by_one: bool,
    ) -> None:
        """Folds BatchNorm in a copy of the trunk and records its forward passes on the device; see `build`."""
        self.precision, self.batch_size, self.workers = precision, batch_size or _BATCH_SIZE, workers
        self.device = device
        self._turn = threading.Lock()
        self._streams = threading.local()
        # Kept, because the graph replays the addresses of its weights and does not keep them alive.
        self._network = _prepare(trunk, torch.bfloat16 if precision == "bf16" else torch.float32).to(device)
        shape = (self.batch_size, 3, transform.crop, transform.crop)
        self._images = torch.zeros(shape, dtype=torch.uint8, device=device)
        sizes = (self.batch_size, *(size for size in _SMALL_SIZES if one_by_one and size < self.batch_size))
        self._graphs = _record(self._network, self._images, sizes, exact=precision == "fp32")

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, ...) on the CPU for uint8 images (N, 3, H, W)."""
        if not hasattr(self._streams, "own"):
            self._streams.own = torch.cuda.Stream(self.device)
        stream: torch.cuda.Stream = self._streams.own
        # The images were put together on the caller's.
        stream.wait_stream(torch.cuda.current_stream(self.device))
        parts = []
        with torch.cuda.stream(stream):
            for part in images.split(self.batch_size):
                if part.device.type == "cpu":
                    # Moved before this worker's turn, so that no other one waits for the transfer.
                    part = part.pin_memory().to(self.device, non_blocking=True)
                graph, found = self._graphs[min(size for size in self._graphs if size >= len(part))]
                with self._turn:
                    self._images[: len(part)].copy_(part)
                    graph.replay()
                    features = as_stored(found[: len(part)]).clone()
                    # The next worker writes into the same buffers.
                    stream.synchronize()
                parts.append(features.cpu())
        return torch.cat(parts)


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
def _record(
    network: nn.Module, images: Tensor, sizes: Collection[int], *, exact: bool
) -> dict[int, tuple[torch.cuda.CUDAGraph, Tensor]]:
    """Returns graphs over the first of some images, by how many, each with the memory of its result.

    They share the memory of what is computed in between, so that only one may run at a time; with the largest first,
    the others need no more. `exact` forbids rounding float32 products to TF32. A graph refers to the weights of the
    network and to `images` by address alone: the caller keeps both.
    """
    stream = torch.cuda.Stream(images.device)
    stream.wait_stream(torch.cuda.current_stream(images.device))
    kernels = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not exact)
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
    pool = None
    with torch.cuda.stream(stream), kernels:
        for size in sizes:
            for _ in range(_WARM_UP_PASSES):
                network(images[:size])
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                features: Tensor = network(images[:size])
            graphs[size], pool = (graph, features), graph.pool()
    return graphs
