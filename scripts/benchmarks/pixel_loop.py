"""The loop of the systems that dogbreeds replaces: every photo through the whole network in every epoch.

Run as a program in a process of its own, which times its imports too:
`python -m benchmarks.pixel_loop <folder> <photos>` prints one JSON line.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

_BATCH_SIZE = 64
_HIDDEN = 256
_CLASSES = 133


@dataclass(frozen=True)
class LoopTimes:
    """Seconds of the loop: to start, and per photo of a training, an evaluation and a bf16 evaluation pass."""

    start: float
    train: float
    evaluate: float
    evaluate_bf16: float


def measure(folder: str, photos: int) -> LoopTimes:
    """Times the loop as its notebooks have it: torchvision's folders, transforms and loader, ResNet50 in fp32.

    Args:
        folder: Holds train/.
        photos: Photos of each timed pass.
    """
    began = time.perf_counter()
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import datasets, models, transforms

    model = models.resnet50(weights=None)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.fc = nn.Sequential(nn.Linear(model.fc.in_features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _CLASSES))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    augmented = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]
    plain = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise]
    train = DataLoader(
        datasets.ImageFolder(f"{folder}/train", transforms.Compose(augmented)), _BATCH_SIZE, shuffle=True
    )
    valid = DataLoader(datasets.ImageFolder(f"{folder}/train", transforms.Compose(plain)), _BATCH_SIZE)
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.fc.parameters())

    def train_pass(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
        model.train()
        for images, labels in batches:
            optimizer.zero_grad()
            loss_of(model(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def evaluation_pass(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
        model.eval()
        for images, _ in batches:
            model(images.to(device)).argmax(dim=1).cpu()

    def seconds_per_photo(one_pass: object, loader: object) -> float:
        assert callable(one_pass) and isinstance(loader, DataLoader)
        batches = iter(loader)
        # The first batch, in which memory is got and kernels are chosen, does not count.
        one_pass(itertools.islice(batches, 1))
        timed = time.perf_counter()
        one_pass(itertools.islice(batches, max(1, photos // _BATCH_SIZE)))
        return (time.perf_counter() - timed) / (max(1, photos // _BATCH_SIZE) * _BATCH_SIZE)

    started = time.perf_counter() - began
    times = [seconds_per_photo(train_pass, train), seconds_per_photo(evaluation_pass, valid)]
    with torch.autocast(device.type, dtype=torch.bfloat16):
        times.append(seconds_per_photo(evaluation_pass, valid))
    return LoopTimes(started, *times)


def main() -> None:
    """Prints the times as one JSON line."""
    print(json.dumps(vars(measure(sys.argv[1], int(sys.argv[2])))))


if __name__ == "__main__":
    main()
