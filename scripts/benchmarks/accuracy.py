"""Case `accuracy`: what each backbone is worth on real photos, and what the settings add to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fine_tune import FineTuned, fine_tune
from benchmarks.settings import BenchSettings
from benchmarks.table import Section
from dogbreeds import search, train
from dogbreeds.config import load_saved
from dogbreeds.errors import UserError
from dogbreeds.model.backbones import load_backbone
from dogbreeds.package.package import read_description
from dogbreeds.run_directory import MODEL, RUN_CONFIG
from dogbreeds.training.run import RunResult

#: Names of conf/model whose weights may lie in the folder.
_BACKBONES = ("squeezenet1_1", "mobilenet_v2", "tf_efficientnet_lite0", "tf_efficientnet_lite2")
_GRID = ("lr=0.001,0.01,0.1", "batch_size=128,256,512")
# The larger input, as a share of the backbone's own, rounded to what networks halve five times.
_LARGER, _MULTIPLE = 1.25, 32


@dataclass(frozen=True)
class Scores:
    """What one backbone reaches: metrics of its runs, and the whole fine-tune."""

    exact: dict[str, Any]
    default: dict[str, Any]
    mirror: dict[str, Any]
    larger: dict[str, Any]
    worst: dict[str, float]
    fine_tuned: FineTuned | None


def run(settings: BenchSettings) -> Section:
    """Trains each backbone whose weights lie in a folder, in each way.

    Raises:
        UserError: There are no weights.
    """
    weights, names = backbones(settings)
    with tempfile.TemporaryDirectory() as directory:
        found = {name: _scores(settings, weights, name, Path(directory) / name) for name in names}
    images = next(iter(found.values())).default["images"]
    return Section(
        title="accuracy",
        text=f"{images['train']} photos to train on, {images['valid']} to validate, {images['test']} to test. Each "
        "cell: validation loss / validation accuracy / test accuracy. Exact is the linear head solved exactly, "
        "default what train.py does; the others differ from it in that setting alone. The larger input has 1.25 "
        "times the side, with model.crop=1.0; the worst cell is that of lr 0.001, 0.01, 0.1 by batch 128, 256, 512 "
        f"with the lowest test accuracy. {_fine_tune_text(settings.fine_tune_epochs)}",
        columns=(
            *("backbone", "exact", "default", "features.mirror=true", "larger input", "worst of the grid"),
            *("seconds of a first run", "whole fine-tune", "its seconds"),
        ),
        rows=[_row(name, scores) for name, scores in found.items()],
        numbers=dict(_numbers(found)),
    )


def backbones(settings: BenchSettings) -> tuple[Path, list[str]]:
    """Returns a folder of weights, and the names of the backbones whose weights lie there."""
    weights = Path(settings.weights or "")
    names = [name for name in _BACKBONES if any(weights.glob(f"{name}*"))] if settings.weights else []
    if not names:
        raise UserError(f"weights={settings.weights}: this case needs a folder with {', '.join(_BACKBONES)}.")
    return weights, names


def _fine_tune_text(epochs: int) -> str:
    if not epochs:
        return "The whole fine-tune was not run."
    how = f"{epochs} epochs in fp32 (AdamW, cosine, random crops, label smoothing)"
    return f"The whole fine-tune trains all layers for {how}: validation / test accuracy."


def _scores(settings: BenchSettings, weights: Path, name: str, directory: Path) -> Scores:
    place = [f"data.dir={settings.photos}", f"model={name}", f"model.weights={weights}", f"cache.dir={directory}"]

    def trained(way: str, *overrides: str) -> RunResult:
        return train(*place, f"run_dir={directory / way}", *overrides)

    default = trained("default")
    side = read_description(default.directory / MODEL).transform.crop
    larger = round(_LARGER * side / _MULTIPLE) * _MULTIPLE
    grid = search(*place, *_GRID, f"hydra.sweep.dir={directory / 'grid'}").leaderboard
    cells = [dict(entry.metrics) for entry in grid.finished]
    strength = default.metrics["reference/strength"]
    return Scores(
        exact=trained("exact", "optimizer=exact", f"weight_decay={strength}").metrics,
        default=default.metrics,
        mirror=trained("mirror", "features.mirror=true").metrics,
        larger=trained("larger", f"model.resolution={larger}", "model.crop=1.0").metrics,
        worst=min(cells, key=lambda metrics: metrics["test/accuracy"]),
        fine_tuned=_fine_tuned(settings, default.directory) if settings.fine_tune_epochs else None,
    )


def _fine_tuned(settings: BenchSettings, run: Path) -> FineTuned:
    config = load_saved(run / RUN_CONFIG)
    model = config.model
    backbone = load_backbone(model.backbone, model.weights, config.seed, library=model.library, pool=model.pool)
    return fine_tune(backbone, settings.photos, settings.fine_tune_epochs)


def _row(name: str, scores: Scores) -> tuple[str, ...]:
    ways = (scores.exact, scores.default, scores.mirror, scores.larger, scores.worst)
    tuned = scores.fine_tuned
    return (
        name,
        *(f"{way['val/loss']:.3f} / {way['val/accuracy']:.3f} / {way['test/accuracy']:.3f}" for way in ways),
        f"{scores.default['seconds']['total']:.0f}",
        "not run" if tuned is None else f"{tuned.val_accuracy:.3f} / {tuned.test_accuracy:.3f}",
        "" if tuned is None else f"{tuned.seconds:.0f}",
    )


def _numbers(found: dict[str, Scores]) -> Iterator[tuple[str, float]]:
    for name, scores in found.items():
        for way in ("exact", "default", "mirror", "larger", "worst"):
            metrics = getattr(scores, way)
            for metric in ("val/loss", "val/accuracy", "test/accuracy"):
                yield f"{name} {way} {metric}", metrics[metric]
        if scores.fine_tuned is not None:
            yield f"{name} fine-tune test/accuracy", scores.fine_tuned.test_accuracy
            yield f"{name} fine-tune seconds", scores.fine_tuned.seconds
