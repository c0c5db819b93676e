"""A trained head against the exact linear solution, on the same photos."""

from collections.abc import Mapping
from typing import Any

from dogbreeds.debug.rules.results import against_exact
from dogbreeds.formats import counted, points
from dogbreeds.installation import command
from dogbreeds.model.paired import Paired
from dogbreeds.overrides import override

# More photos than anybody will collect for it.
_MANY = 1_000_000


def is_below(metrics: Mapping[str, Any]) -> bool:
    """Whether the exact solution is clearly better on the validation photos or on the test photos."""
    pairs = (against_exact(metrics, split) for split in ("val", "test"))
    return any(pair is not None and pair.clear and pair.difference < 0 for pair in pairs)


def own(config: Mapping[str, Any]) -> list[str]:
    """Returns the overrides for the same photos and the same backbone; older runs lack the later settings."""
    model, data = config["model"], config["data"]
    chosen = {
        "data.labels": data.get("labels"),
        "data.exclude": data.get("exclude"),
        "data.split_seed": data.get("split_seed") or None,
        "data.on_bad_image": "stop" if data.get("on_bad_image") == "stop" else None,
        "features.mirror": "true" if config.get("features", {}).get("mirror") else None,
        "seed": config["seed"] if model["weights"] == "random" else None,
        "model.weights": None if model["weights"] == "imagenet" else model["weights"],
    }
    others = [override(name, str(value)) for name, value in chosen.items() if value is not None]
    return [override("data.dir", data["dir"]), *_network(model), *others]


def _network(model: Mapping[str, Any]) -> list[str]:
    """Returns the overrides for a backbone and how it sees photos."""
    if model.get("library", "torchvision") == "torchvision":
        found = [override("model", model["backbone"])]
    else:
        found = [override("model", model["library"]), override("model.backbone", model["backbone"])]
    seen = {f"model.{name}": model.get(name) for name in ("pool", "resolution", "crop")}
    return found + [override(name, str(value)) for name, value in seen.items() if value not in (None, "head")]


def exact_command(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Returns the command that makes a model of the exact solution, where that is clearly better; empty elsewhere."""
    if not is_below(metrics):
        return ""
    weights = config["model"].get("class_weights", "none")
    balanced = [] if weights == "none" else [override("model.class_weights", weights)]
    strength = f"weight_decay={metrics['reference/strength']:g}"
    return " ".join((command("train"), *own(config), *balanced, "optimizer=exact", strength))


def by_how_much(metrics: Mapping[str, Any]) -> str:
    """Returns by how much the exact solution is better, on validation and test photos."""
    found = []
    for split, name in (("val", "validation"), ("test", "test")):
        if (pair := against_exact(metrics, split)) is not None:
            low, high = pair.interval
            found.append(f"{points(-pair.difference)} points ({points(-high)} to {points(-low)}) on {name} photos")
    return ", ".join(found)


def difference(pair: Paired) -> str:
    """Returns the difference of two accuracies with its interval: `2.6 points less (0.5 to 4.7)`."""
    low, high = pair.interval
    if pair.difference < 0:
        low, high = -high, -low
    word = "less" if pair.difference < 0 else "more"
    return f"{points(abs(pair.difference))} points {word} ({points(low)} to {points(high)} with 95% confidence)"


def settling(pair: Paired) -> str:
    """Returns how many more photos would show a difference of the size that was found; empty where it is clear."""
    needed = pair.photos_to_settle
    if pair.clear or needed is None or needed <= pair.photos:
        return ""
    if needed > _MANY:
        return "no number of photos that can be had would settle it"
    # Two digits: the number rests on the few photos that tell the models apart.
    digits = max(0, len(str(needed - pair.photos)) - 2)
    return f"about {counted(round(needed - pair.photos, -digits), 'more test photo')} would settle it"
