"""Torchvision models with weights: random, downloaded, or from a file that may be damaged or of another backbone."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from dogbreeds.errors import WeightsError
from dogbreeds.model.names import BACKBONES

State = Mapping[str, Tensor]

_MAX_SHOWN_DIFFERENCES = 3
# A counter that evaluation does not use; weights saved before PyTorch 0.4.1 lack it.
_COUNTER = "num_batches_tracked"
# Raised on reading a cut-off file, or one that never held weights; the last four by torch's unpickler.
_DAMAGED = (
    SafetensorError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    zipfile.BadZipFile,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
)


def random_model(name: str, seed: int) -> nn.Module:
    """Returns a model with random weights; the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = models.get_model(name, weights=None)
        return model


def pretrained_model(name: str, weights: str) -> nn.Module:
    """Returns a model with weights, all but its last layer, which is replaced anyway.

    Weights that were fine-tuned on other classes therefore serve as well.
    """
    loaded = _download(name) if weights == "imagenet" else _read(Path(weights))
    model, expected, _ = _outline(name)
    differences = _differences(name, loaded)
    if differences:
        more = len(differences) - _MAX_SHOWN_DIFFERENCES
        fitting = next((other for other in BACKBONES if not _differences(other, loaded)), None)
        raise WeightsError(
            f"model.weights={weights} are not weights of {name}: {'; '.join(differences[:_MAX_SHOWN_DIFFERENCES])}"
            f"{f' and {more} more' if more > 0 else ''}.{f' They fit model={fitting}.' if fitting else ''}"
        )
    counters = {key: torch.tensor(0) for key in expected if key.endswith(_COUNTER)}
    # Weights saved in half precision compute in float32 like any others; copied, because the bytes of a
    # .safetensors file are not aligned as torch's are, and the last bits of features depend on that.
    complete = {**counters, **loaded}
    state = {key: complete[key].to(value.dtype, copy=True) for key, value in expected.items()}
    model.load_state_dict(state, strict=False, assign=True)
    return model


def _outline(name: str) -> tuple[nn.Module, dict[str, Tensor], str]:
    """A model without memory for its weights, its state without the last layer, and the prefix of that layer."""
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    # The classifying layer is the last one that is linear or a convolution.
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    last = f"{layers[-1]}."
    return model, {key: value for key, value in model.state_dict().items() if not key.startswith(last)}, last


def _differences(name: str, state: State) -> list[str]:
    """How a state dict differs from that of a backbone, counters and last layer aside."""
    _, expected, ignored = _outline(name)
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


def _download(name: str) -> State:
    weights = models.get_model_weights(name)["DEFAULT"]
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        return weights.get_state_dict(check_hash=True, weights_only=True)  # type: ignore[no-any-return]
    except (*_DAMAGED, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"model.weights=imagenet: {weights.url} cannot be downloaded ({_first_line(error)}).\n"
            f"Download that file elsewhere and pass it as model.weights=<file> (or put it at {target}), "
            "or try model.weights=random, which is not pretrained."
        ) from error


def _read(path: Path) -> State:
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except _DAMAGED as error:
        raise WeightsError(f"model.weights={path} is damaged or cut off: {_first_line(error)}") from error
    except pickle.UnpicklingError as error:
        # Torch's own message tells how to load the file in spite of the danger.
        raise WeightsError(
            f"model.weights={path} is not a state dict that can be loaded safely.\n"
            "Save the weights alone: torch.save(model.state_dict(), path)."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(
            f"model.weights={path} holds a {type(state).__name__} that is not a state dict. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        )
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
