"""Scores of predictions, by torchmetrics."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

_CALIBRATION_BINS = 15


def split_metrics(classes: int) -> MetricCollection:
    """Returns the metrics of a split, for logits (N, classes) and labels (N,).

    With fewer than five classes the top-5 accuracy is that of as many as there are.
    """
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "top5_accuracy": MulticlassAccuracy(classes, average="micro", top_k=min(5, classes)),
            "macro_f1": MulticlassF1Score(classes, average="macro"),
        }
    )


def evaluate(logits: Tensor, labels: Tensor, temperature: float, prefix: str = "") -> dict[str, Any]:
    """Returns the metrics of one split, under names that begin with `prefix`, such as `test/`.

    `accuracy`, `top5_accuracy`, `macro_f1`, `loss` (cross-entropy of the uncalibrated logits), `calibration_error`
    (expected, 15 bins) with and without the temperature; the list `per_class_accuracy` (recall).
    """
    classes, photos = logits.shape[1], len(labels)
    predicted = logits.argmax(dim=1)
    scores = {name: float(value) for name, value in split_metrics(classes)(logits, labels).items()}
    # torchmetrics computes in float32: these are the shares of photos that it means.
    shares = {name: round(scores[name] * photos) / photos for name in ("accuracy", "top5_accuracy")}
    recalls = multiclass_accuracy(predicted, labels, num_classes=classes, average="none")
    found = {
        **scores,
        **shares,
        "loss": float(torch.nn.functional.cross_entropy(logits.double(), labels)),
        "calibration_error": _calibration_error(logits / temperature, labels),
        "calibration_error_uncalibrated": _calibration_error(logits, labels),
        "per_class_accuracy": recalls.tolist(),
    }
    return {f"{prefix}{name}": value for name, value in found.items()}


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    probabilities = logits.softmax(dim=1)
    classes, bins = logits.shape[1], _CALIBRATION_BINS
    return float(multiclass_calibration_error(probabilities, labels, num_classes=classes, n_bins=bins))


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
