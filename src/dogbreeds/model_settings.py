"""What the settings of a backbone may be, asked of its library where that has to be loaded to know."""

from functools import cache
from pathlib import Path

from dogbreeds.constraints import problems
from dogbreeds.errors import ConfigError, WeightsError
from dogbreeds.model.names import BACKBONES, POOLS, WEIGHTS
from dogbreeds.model.weight_files import weights_file
from dogbreeds.schema import ModelConfig

# Of a hidden layer; two of these have a gigabyte of weights between them.
_WIDEST = 16_384


def model_problems(model: ModelConfig) -> list[str]:
    """Returns a line for each setting of the backbone and the head that cannot be."""
    found = []
    if model.head == "mlp" and not (model.hidden and all(1 <= width <= _WIDEST for width in model.hidden)):
        found.append(f"model.hidden={model.hidden}: model.head=mlp needs widths up to {_WIDEST:,}, such as [256].")
    stages = BACKBONES.get(model.backbone, ()) if model.library == "torchvision" else ()
    if stages and model.unfreeze is not None and model.unfreeze not in stages:
        found.append(f"model.unfreeze={model.unfreeze}: must be one of {', '.join(stages)}, or null.")
    # A library would say in its own words what the schema says of a value already.
    return found if problems(model) else [*found, *_network_problems(model)]


def _network_problems(model: ModelConfig) -> list[str]:
    """Asks the library whether it has the network and its weights; torchvision's own are known without it."""
    known = model.library == "torchvision" and model.backbone in BACKBONES
    place = Path(model.weights)
    try:
        if model.weights in WEIGHTS or place.exists():
            weights_file(place, model.backbone)
            if known and model.pool == POOLS[0] and model.resolution is None:
                return []
        from dogbreeds.model.backbones import architecture_of

        names = architecture_of(model.backbone, model.library).named_weights()
        if model.unfreeze is not None or model.pool != POOLS[0] or model.resolution is not None:
            _check_shape(model.library, model.backbone, model.pool, model.resolution, model.unfreeze)
    except (ConfigError, WeightsError) as error:
        return [str(error)]
    known_names = (*WEIGHTS, *names)
    if model.weights in known_names or place.exists():
        return []
    said = f"no such file, and not one of {', '.join(known_names)} of {model.backbone}."
    return [f"model.weights={model.weights}: {said}"]


@cache
def _check_shape(library: str, backbone: str, pool: str, resolution: int | None, unfreeze: str | None) -> None:
    """Builds the network and cuts it; trials of a search have few shapes."""
    from dogbreeds.model.backbones import cut, load_backbone

    built = load_backbone(backbone, "random", 0, library=library, pool=pool, resolution=resolution)
    cut(built.stages, built.transform, unfreeze)
