"""A whole fine-tune of a backbone: what training all of its layers gains over freezing it, and what it costs."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dogbreeds.data.layout import find_photos
from dogbreeds.data.transform import Transform
from dogbreeds.data.views import read_view
from dogbreeds.model.backbones import Backbone, cut

# The usual recipe for fine-tuning with timm, at a size that a small set of photos takes.
_BATCH_SIZE = 32
_LEARNING_RATE, _WEIGHT_DECAY, _SMOOTHING = 3e-4, 0.05, 0.1
_WARM_UP = 0.1


@dataclass(frozen=True)
class FineTuned:
    """What it reached after its last epoch, and the seconds that it took, evaluation included."""

    val_accuracy: float
    test_accuracy: float
    seconds: float


def fine_tune(backbone: Backbone, photos: Path, epochs: int) -> FineTuned:
    """Trains all layers with AdamW, a cosine with warm-up, random crops and label smoothing, in fp32."""
    began = time.perf_counter()
    torch.manual_seed(0)
    found = find_photos(photos)
    classes = found.classes
    labels_of = {path: classes.index(name) for of in found.splits.values() for name, ps in of.items() for path in ps}
    normalise, layers = cut(backbone.stages, backbone.transform, next(iter(dict(backbone.stages.named_children()))))
    network = nn.Sequential(normalise, layers, nn.Linear(backbone.width, len(classes)))
    steps = epochs * -(-len(found.photos("train")) // _BATCH_SIZE)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    optimizer.add_param_group({"params": network[2].parameters(), "lr": 10 * _LEARNING_RATE})
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], steps, pct_start=_WARM_UP, cycle_momentum=False
    )
    order = found.photos("train")
    for epoch in range(1, epochs + 1):
        random.Random(epoch).shuffle(order)
        network.train()
        for start in range(0, len(order), _BATCH_SIZE):
            batch = order[start : start + _BATCH_SIZE]
            labels = torch.tensor([labels_of[path] for path in batch])
            loss = nn.functional.cross_entropy(
                network(_augmented(batch, epoch, backbone.transform)), labels, label_smoothing=_SMOOTHING
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    valid, test = (
        _accuracy(network.eval(), found.photos(split), labels_of, backbone.transform) for split in ("valid", "test")
    )
    return FineTuned(valid, test, time.perf_counter() - began)


def _augmented(batch: list[Path], view: int, transform: Transform) -> Tensor:
    read = read_view([path.read_bytes() for path in batch], [str(path) for path in batch], view, transform)
    return torch.stack([image for image in read if isinstance(image, Tensor)])


@torch.inference_mode()
def _accuracy(network: nn.Module, paths: list[Path], labels: dict[Path, int], transform: Transform) -> float:
    correct = 0
    for start in range(0, len(paths), _BATCH_SIZE):
        batch = paths[start : start + _BATCH_SIZE]
        answers = network(torch.stack([transform.read(path.read_bytes()) for path in batch])).argmax(dim=1)
        correct += sum(int(answer) == labels[path] for answer, path in zip(answers, batch, strict=True))
    return correct / len(paths)
