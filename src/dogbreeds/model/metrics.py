"""What is said of a set of predictions, by torchmetrics, from logits that are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

_CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split.

    Attributes:
        scalars: `accuracy`, `top5_accuracy`, `macro_f1`, `loss` (cross-entropy of the uncalibrated logits),
            `calibration_error` (expected, 15 bins) with and without the temperature.
        per_class: Share of right answers for each class (recall), in the order of the classes.
        confusion: int64 (classes, classes): photos of the row's breed that were called the column's breed.
    """

    scalars: dict[str, float]
    per_class: list[float]
    confusion: list[list[int]]

    def to_json(self, prefix: str) -> dict[str, Any]:
        """Returns flat entries such as `test/accuracy`."""
        return {
            **{f"{prefix}/{name}": value for name, value in self.scalars.items()},
            f"{prefix}/per_class_accuracy": self.per_class,
            f"{prefix}/confusion": self.confusion,
        }


def evaluate(logits: Tensor, labels: Tensor, temperature: float) -> Evaluation:
    """Scores logits (N, classes) against labels (N,).

    With fewer than five classes the top-5 accuracy is that of as many as there are.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(dim=1)
    scalars = {
        "accuracy": (predicted == labels).double().mean(),
        "top5_accuracy": (logits.topk(min(5, classes)).indices == labels[:, None]).any(dim=1).double().mean(),
        "macro_f1": multiclass_f1_score(predicted, labels, num_classes=classes, average="macro"),
        "loss": torch.nn.functional.cross_entropy(logits.double(), labels),
        "calibration_error": _calibration_error(logits / temperature, labels),
        "calibration_error_uncalibrated": _calibration_error(logits, labels),
    }
    recalls = multiclass_accuracy(predicted, labels, num_classes=classes, average="none")
    return Evaluation(
        scalars={name: float(value) for name, value in scalars.items()},
        per_class=recalls.tolist(),
        confusion=multiclass_confusion_matrix(predicted, labels, num_classes=classes).tolist(),
    )


def _calibration_error(logits: Tensor, labels: Tensor) -> Tensor:
    return multiclass_calibration_error(
        logits.softmax(dim=1), labels, num_classes=logits.shape[1], n_bins=_CALIBRATION_BINS
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Returns the temperature that minimises the cross-entropy of held-out logits (Guo et al. 2017).

    Bounded to [0.05, 20], which a split without mistakes would otherwise leave.
    """
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")
    scores = logits.double()

    def closure() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores / log_temperature.exp(), labels)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return float(log_temperature.detach().exp().clamp(0.05, 20.0))
