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
from dogbreeds.model.rows import Rows, blocks, computed

#: L2 strengths, in units of the mean cross-entropy per photo; around the optimum on 900 to 9,025 photos.
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_ITERATIONS = 500
# Logits are then within about 0.01 of those at a tenth of it, far below what changes an answer.
_GRADIENT_TOLERANCE = 1e-5
# Of the solutions on parts of the photos: a third of the steps, and the same photos are the least probable ones.
_FOLD_TOLERANCE = 1e-3
_MIN_VARIANCE = 1e-12
# Below this many multiplications a matrix product gains nothing from threads, and on a busy machine they wait for
# each other: 900 x 512 took 0.4 s with one thread and 30 s with two beside two busy processes.
_SINGLE_THREAD_BELOW = 10_000_000_000


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
        features: Rows,
        labels: Tensor,
        validation: Rows,
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
        _, _, rotated = self._along_axes
        logits = torch.empty(len(rotated), self._classes)
        for fold in folds.unique():
            others, inside = (folds != fold) & trusted, folds == fold
            # Photos of no weight take time, but copying the others takes memory.
            weight, bias = self._minimise(strength, start, others, _FOLD_TOLERANCE)
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
        weight, bias = self._minimise(strength, start)
        weight = weight @ self._along_axes[0].T
        held_out = computed(lambda block: torch.nn.functional.linear(block, weight, bias), self._validation)
        loss = torch.nn.functional.cross_entropy(held_out, self._validation_labels)
        solution = ExactSolution(strength, weight, bias, float(loss))
        if self._solutions is not None:
            self._solutions.put(solution)
        return solution

    @property
    def _classes(self) -> int:
        if self._class_weights is not None:
            return len(self._class_weights)
        return int(max(self._labels.max(), self._validation_labels.max())) + 1

    @cached_property
    def _along_axes(self) -> tuple[Tensor, Tensor, Tensor]:
        """The principal axes, the mean squares along them, and the training photos in their coordinates."""
        width = self._features[torch.arange(1)].shape[1]
        with compute_threads(_threads(len(self._features) * width**2)):
            axes, variances = _principal_axes(self._features, width)
            return axes, variances, computed(lambda block: block @ axes, self._features)

    def _minimise(
        self,
        strength: float,
        start: ExactSolution | None,
        learned: Tensor | None = None,
        tolerance: float = _GRADIENT_TOLERANCE,
    ) -> tuple[Tensor, Tensor]:
        """Returns the optimal weight and bias along the axes, learned from all photos or from some, bool (N,).

        They are found in coordinates that are about equally curved.
        """
        axes, variances, rotated = self._along_axes
        # The curvature of a class's cross-entropy is p (1 - p); it only steers speed.
        scale = (variances / self._classes + strength).rsqrt()
        penalty = strength / 2 * scale.square()
        shares = torch.ones(len(rotated)) if self._class_weights is None else self._class_weights[self._labels]
        shares = shares if learned is None else shares * learned
        shares = shares / shares.sum()
        weight = torch.zeros(self._classes, len(variances)) if start is None else start.weight @ axes
        coordinates = (weight / scale).requires_grad_()
        bias = (torch.zeros(self._classes) if start is None else start.bias.clone()).requires_grad_()
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
            scores = torch.nn.functional.linear(rotated, coordinates * scale, bias)
            losses = torch.nn.functional.cross_entropy(scores, self._labels, reduction="none")
            loss = shares @ losses + (penalty * coordinates.square()).sum()
            loss.backward()
            return loss.item()

        with compute_threads(_threads(rotated.numel() * self._classes)), torch.enable_grad():
            optimizer.step(closure)
        return (coordinates * scale).detach(), bias.detach()


def _threads(products: int) -> int:
    return 1 if products < _SINGLE_THREAD_BELOW else torch.get_num_threads()


def _principal_axes(rows: Rows, width: int) -> tuple[Tensor, Tensor]:
    """Returns the axes (width, rank) along which rows (N, width) are not zero, and their mean squares (rank,)."""
    photos = len(rows)
    if width <= photos:
        products = torch.zeros(width, width)
        for block in blocks(rows):
            products.addmm_(block.T, block)
        variances, axes = torch.linalg.eigh(products / photos)
        return axes, variances.clamp_min(0)
    # Fewer photos than features: their products are smaller, but axes made of them need all digits to be orthogonal.
    inputs = rows[torch.arange(photos)].double()
    variances, vectors = torch.linalg.eigh(inputs @ inputs.T / photos)
    kept = variances > _MIN_VARIANCE * variances[-1].clamp_min(_MIN_VARIANCE)
    variances, vectors = variances[kept], vectors[:, kept]
    return (inputs.T @ vectors / (photos * variances).sqrt()).float(), variances.float()
