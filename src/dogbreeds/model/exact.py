"""The linear head solved exactly: the reference for a trained head.

It never touches the trained head, so that the two can be compared.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dogbreeds.machine import compute_threads

#: L2 strengths, in units of the mean cross-entropy per photo; around the optimum on 900 to 9,025 photos.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_ITERATIONS = 500
# Logits are then within about 0.01 of those at a tenth of it, far below what changes an answer.
_GRADIENT_TOLERANCE = 1e-5
# Of the solutions on parts of the photos: a third of the steps, and the same photos are the least probable ones.
_FOLD_TOLERANCE = 1e-3
# The curvature of a class's cross-entropy, p (1 - p), at the middle of what photos have; it only steers speed.
_TYPICAL_CURVATURE = 0.1
_MIN_VARIANCE = 1e-12
# Below this many numbers a matrix product gains nothing from threads, and on a busy machine they wait for each
# other: 900 x 512 took 0.4 s with one thread and 30 s with two beside two busy processes.
_SINGLE_THREAD_BELOW = 4_000_000


@dataclass(frozen=True)
class ExactSolution:
    """A point of the L2 path: float32 (classes, width) and (classes,), and the cross-entropy on validation photos."""

    strength: float
    weight: Tensor
    bias: Tensor
    validation_loss: float

    def logits(self, features: Tensor) -> Tensor:
        """Returns logits (N, classes) for normalised features (N, width)."""
        return torch.nn.functional.linear(features, self.weight, self.bias)


class SolutionCache(Protocol):
    """Keeps the points of one path."""

    def get(self, strength: float) -> ExactSolution | None: ...
    def put(self, solution: ExactSolution) -> None: ...


class ExactPath:
    """The minima of mean cross-entropy + strength/2 * ||W||^2, solved from strong to weak.

    Each is convex and solved by L-BFGS from the one before, so it depends on no learning rate, batch size or seed.
    It is solved along the principal axes of the features, which span all that a solution can use, each scaled by the
    curvature there: the same optimum in a fraction of the steps.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        validation: Tensor,
        validation_labels: Tensor,
        class_weights: Tensor | None,
        solutions: SolutionCache | None = None,
    ) -> None:
        """Describes the problem; nothing is solved yet.

        Features (N, width) are normalised, labels int64 (N,); the weights of the classes are those in the training
        loss, and `solutions` the points that were solved before.
        """
        self._features, self._labels = features, labels
        self._validation, self._validation_labels = validation, validation_labels
        self._class_weights, self._solutions = class_weights, solutions

    def best(self) -> ExactSolution:
        """Returns the point of `STRENGTHS` with the lowest validation loss.

        The path ends where the validation loss rises: weaker penalties, the slowest to solve, would raise it further.
        """
        found: list[ExactSolution] = []
        for solution in self._along(STRENGTHS):
            found.append(solution)
            if solution.validation_loss > found[max(0, len(found) - 2)].validation_loss:
                break
        return min(found, key=lambda solution: solution.validation_loss)

    def at(self, strength: float) -> ExactSolution:
        return list(self._along([*(other for other in STRENGTHS if other > strength), strength]))[-1]

    def out_of_fold(self, strength: float, folds: Tensor, trusted: Tensor) -> Tensor:
        """Returns what the solution on all other folds says of each training photo: probabilities (N, classes).

        Each fold starts from the solution on all photos. Its problem is convex, so of that start no more remains than
        the tolerance allows. `folds`, int64 (N,), has the fold of each photo, `trusted`, bool (N,), those that a
        solution may learn from.
        """
        start = self.at(strength)
        axes, variances, rotated, _ = self._along_axes
        scale = (_TYPICAL_CURVATURE * variances + strength).rsqrt()
        logits = torch.empty(len(rotated), self._classes)
        with compute_threads(1), torch.enable_grad():
            for fold in folds.unique():
                others, inside = (folds != fold) & trusted, folds == fold
                given = rotated[others], self._labels[others], start.weight @ axes, start.bias
                weight, bias = _minimise(*given, strength, scale, self._class_weights, _FOLD_TOLERANCE)
                logits[inside] = torch.nn.functional.linear(rotated[inside], weight, bias)
        return logits.softmax(dim=1)

    def _along(self, strengths: Iterable[float]) -> Iterable[ExactSolution]:
        solution: ExactSolution | None = None
        for strength in sorted(strengths, reverse=True):
            solution = self._solved(strength, solution)
            yield solution

    def _solved(self, strength: float, start: ExactSolution | None) -> ExactSolution:
        known = self._solutions.get(strength) if self._solutions is not None else None
        if known is not None:
            return known
        axes, variances, rotated, held_out = self._along_axes
        # The steps read memory more than they compute: a second thread gains nothing, and loses much on a busy
        # machine.
        with compute_threads(1), torch.enable_grad():
            if start is None:
                weight, bias = torch.zeros(self._classes, len(variances)), torch.zeros(self._classes)
            else:
                weight, bias = start.weight @ axes, start.bias
            scale = (_TYPICAL_CURVATURE * variances + strength).rsqrt()
            weight, bias = _minimise(rotated, self._labels, weight, bias, strength, scale, self._class_weights)
            loss = torch.nn.functional.cross_entropy(held_out @ weight.T + bias, self._validation_labels)
            solution = ExactSolution(strength, weight @ axes.T, bias, float(loss))
        if self._solutions is not None:
            self._solutions.put(solution)
        return solution

    @property
    def _classes(self) -> int:
        if self._class_weights is not None:
            return len(self._class_weights)
        return int(max(self._labels.max(), self._validation_labels.max())) + 1

    @cached_property
    def _along_axes(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The principal axes, the mean squares along them, and both splits in their coordinates."""
        with compute_threads(1 if self._features.numel() < _SINGLE_THREAD_BELOW else torch.get_num_threads()):
            axes, variances = _principal_axes(self._features)
            return axes, variances, self._features @ axes, self._validation @ axes


def _principal_axes(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the axes (width, rank) along which inputs (N, width) are not zero, and their mean squares (rank,)."""
    photos, width = inputs.shape
    if width <= photos:
        variances, axes = torch.linalg.eigh(inputs.T @ inputs / photos)
        return axes, variances.clamp_min(0)
    # Fewer photos than features: their products are smaller, but axes made of them need all digits to be orthogonal.
    inputs = inputs.double()
    variances, vectors = torch.linalg.eigh(inputs @ inputs.T / photos)
    kept = variances > _MIN_VARIANCE * variances[-1].clamp_min(_MIN_VARIANCE)
    variances, vectors = variances[kept], vectors[:, kept]
    return (inputs.T @ vectors / (photos * variances).sqrt()).float(), variances.float()


def _minimise(
    inputs: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    strength: float,
    scale: Tensor,
    class_weights: Tensor | None,
    tolerance: float = _GRADIENT_TOLERANCE,
) -> tuple[Tensor, Tensor]:
    """Returns the optimal weight and bias, found in coordinates that `scale` makes about equally curved."""
    scaled, penalty = inputs * scale, strength / 2 * scale.square()
    coordinates = (weight / scale).requires_grad_()
    bias = bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [coordinates, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=tolerance,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        scores = torch.nn.functional.linear(scaled, coordinates, bias)
        loss = torch.nn.functional.cross_entropy(scores, labels, weight=class_weights)
        loss = loss + (penalty * coordinates.square()).sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return (coordinates * scale).detach(), bias.detach()
