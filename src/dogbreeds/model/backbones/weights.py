"""Networks with weights: random, downloaded, or from a file that may be damaged or of another backbone."""

import hashlib
import logging
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dogbreeds.errors import WeightsError
from dogbreeds.model.backbones.architecture import Architecture, State
from dogbreeds.model.backbones.torchvision_networks import TorchvisionNetwork
from dogbreeds.model.names import BACKBONES

log = logging.getLogger(__name__)

_MAX_SHOWN_DIFFERENCES, _DIGITS = 3, 8
_ALONE = "Save the weights alone: torch.save(model.state_dict(), path)."
# A counter that evaluation does not use; weights saved before PyTorch 0.4.1 lack it.
_COUNTER = "num_batches_tracked"
# Raised on reading a cut-off file, or one that never held weights; the second ones by torch's unpickler.
_CUT_OFF = (SafetensorError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile)
_NO_WEIGHTS = (struct.error, LookupError, TypeError, AttributeError)


def random_model(architecture: Architecture, side: int, seed: int) -> nn.Module:
    """Returns a model with random weights; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architecture.create_random(side)


def pretrained_model(architecture: Architecture, side: int, weights: str) -> nn.Module:
    """Returns a model with weights, all but its last layer, which is replaced anyway.

    Weights that were fine-tuned on other classes therefore serve as well. They are `imagenet`, another name of the
    library, or a file.
    """
    named = weights == "imagenet" or weights in architecture.named_weights()
    loaded = _download(architecture, weights) if named else _read(Path(weights))
    with torch.random.fork_rng(devices=[]):
        model = architecture.create(side)
    expected, ignored = _expected(architecture, model)
    found = _adapted(architecture, loaded, model) if _differences(loaded, expected, ignored) else loaded
    differences = _differences(found, expected, ignored)
    if differences:
        more = len(differences) - _MAX_SHOWN_DIFFERENCES
        fitting = _fitting(loaded)
        raise WeightsError(
            f"model.weights={weights} are not weights of {architecture.name}: "
            f"{'; '.join(differences[:_MAX_SHOWN_DIFFERENCES])}"
            f"{f' and {more} more' if more > 0 else ''}.{f' They fit model={fitting}.' if fitting else ''}"
        )
    counters = {key: torch.tensor(0) for key in expected if key.endswith(_COUNTER)}
    # Weights saved in half precision compute in float32 like any others; copied, because the bytes of a
    # .safetensors file are not aligned as torch's are, and the last bits of features depend on that.
    complete = {**counters, **found}
    state = {key: complete[key].to(value.dtype, copy=True) for key, value in expected.items()}
    model.load_state_dict(state, strict=False, assign=True)
    return model


def name_of(architecture: Architecture, file: Path) -> str | None:
    """Returns the named weights that a file is a copy of, by the digits of its SHA-256 in torchvision's addresses."""
    with file.open("rb") as opened:
        digits = hashlib.file_digest(opened, "sha256").hexdigest()[:_DIGITS]
    return next((one for one in architecture.named_weights() if f"-{digits}." in architecture.source(one)[0]), None)


def _expected(architecture: Architecture, model: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state of a model without its last layer, and how the names of that layer begin."""
    ignored = tuple(f"{layer}." for layer in architecture.classifier(model))
    return {key: value for key, value in model.state_dict().items() if not key.startswith(ignored)}, ignored


def _differences(state: State, expected: State, ignored: tuple[str, ...]) -> list[str]:
    """How a state dict differs from that of a backbone, counters and last layer aside."""
    wanted = {key: value for key, value in expected.items() if not key.endswith(_COUNTER)}
    given = {key: value for key, value in state.items() if not key.startswith(ignored) and not key.endswith(_COUNTER)}
    found = [f"missing {key}" for key in wanted if key not in given]
    found += [f"unexpected {key}" for key in given if key not in wanted]
    found += [
        f"{key} is {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    ]
    return found


def _adapted(architecture: Architecture, state: State, model: nn.Module) -> State:
    try:
        return architecture.adapted(state, model)
    except Exception as error:
        # Made for other weights of the same family, it may fail in any way; the differences say more.
        log.debug("not adapted: %s", error)
        return state


def _fitting(state: State) -> str | None:
    """The first backbone of torchvision that a state dict fits."""
    for name in BACKBONES:
        other = TorchvisionNetwork(name)
        model = other.create(other.preset("imagenet").transform.crop)
        if not _differences(state, *_expected(other, model)):
            return name
    return None


def _download(architecture: Architecture, weights: str) -> State:
    address, target = architecture.source(weights)
    try:
        return architecture.download(weights)
    except Exception as error:
        # Networks, caches and hubs fail in many ways.
        hint = target and f" (or put it at {target})"
        raise WeightsError(
            f"model.weights={weights}: {address} cannot be downloaded ({_first_line(error)}).\n"
            f"Download that file elsewhere and pass it as model.weights=<file>{hint}, "
            "or try model.weights=random, which is not pretrained."
        ) from error


def _read(path: Path) -> State:
    try:
        unpickled = path.suffix != ".safetensors"
        state = torch.load(path, map_location="cpu", weights_only=True) if unpickled else load_file(path)
    except (*_CUT_OFF, *_NO_WEIGHTS) as error:
        raise WeightsError(f"model.weights={path} is damaged or cut off: {_first_line(error)}") from error
    except pickle.UnpicklingError as error:
        # Torch's own message tells how to load the file in spite of the danger.
        raise WeightsError(f"model.weights={path} is not a state dict that can be loaded safely.\n{_ALONE}") from error
    texts = isinstance(state, Mapping) and all(isinstance(name, str) for name in state)
    if not texts or not all(isinstance(value, Tensor) for value in state.values()):
        said = f"model.weights={path} holds a {type(state).__name__} that is not a state dict."
        raise WeightsError(f"{said} {_ALONE}")
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
