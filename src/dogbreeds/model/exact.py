"""The linear head solved exactly: the reference that a trained head must reach.

It never touches the trained head, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

#: L2 strengths, in units of the mean cross-entropy per photo; around the optimum on 900 to 9,025 photos.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_ITERATIONS = 500
_GRADIENT_TOLERANCE = 1e-5
# Below this many numbers a matrix product gains nothing from threads, and on a busy machine they wait for each
# other: 900 x 512 took 0.4 s with one thread and 30 s with two beside two busy processes.
_SINGLE_THREAD_BELOW = 2_000_000


@dataclass(frozen=True)
class ExactSolution:
    """The best point of the L2 path by validation loss.

    Attributes:
        strength: The chosen L2 strength.
        weight: float64 (classes, width).
        bias: float64 (classes,).
        validation_loss: Mean cross-entropy on the validation split.
    """

    strength: float
    weight: Tensor
    bias: Tensor
    validation_loss: float

    def logits(self, features: Tensor) -> Tensor:
        """Returns float64 logits (N, classes) for normalised features (N, width)."""
        return features.double() @ self.weight.T + self.bias


def solve(
    features: Tensor,
    labels: Tensor,
    validation: Tensor,
    validation_labels: Tensor,
    class_weights: Tensor | None,
) -> ExactSolution:
    """Minimises mean cross-entropy + strength/2 * ||W||^2 for every strength and keeps the best on validation.

    The problem is convex and solved by L-BFGS from the solution of the strength before, so the result depends
    on no learning rate, batch size or seed.

    Args:
        features: Normalised training features (N, width).
        labels: int64 (N,).
        validation: Normalised validation features (M, width).
        validation_labels: int64 (M,).
        class_weights: Weights of the classes (classes,) in the training loss, or None.
    """
    classes = int(max(labels.max(), validation_labels.max())) + 1
    inputs, held_out = features.double(), validation.double()
    class_weights = None if class_weights is None else class_weights.double()
    weight = torch.zeros(classes, inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solutions = []
    with _threads(1 if inputs.numel() < _SINGLE_THREAD_BELOW else torch.get_num_threads()):
        for strength in sorted(STRENGTHS, reverse=True):
            _minimise(inputs, labels, weight, bias, strength, class_weights)
            with torch.no_grad():
                scores = held_out @ weight.T + bias
                loss = float(torch.nn.functional.cross_entropy(scores, validation_labels))
            solutions.append(ExactSolution(strength, weight.detach().clone(), bias.detach().clone(), loss))
    return min(solutions, key=lambda solution: solution.validation_loss)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _minimise(
    inputs: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: float,
    class_weights: Tensor | None,
) -> None:
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=_GRADIENT_TOLERANCE,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        scores = torch.nn.functional.linear(inputs, weight, bias)
        loss = torch.nn.functional.cross_entropy(scores, labels, weight=class_weights)
        loss = loss + strength / 2 * weight.square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
