from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dogbreeds.model.exact import STRENGTHS, ExactPath, ExactSolution

WIDTH, CLASSES = 12, 4


def solve(
    features: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor, weights: Tensor | None
) -> ExactSolution:
    return ExactPath(features, labels, held_out, held_out_labels, weights).best()


Data = tuple[Tensor, Tensor, Tensor, Tensor]


def data(noise: float = 1.5, seed: int = 0) -> Data:
    """Clouds around one centre per class, which overlap."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)

    def split(number: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(number) % CLASSES
        return centres[labels] + noise * torch.randn(number, WIDTH, generator=generator), labels

    return (*split(80), *split(60))


def objective(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, strength: float, class_weights: Tensor | None
) -> Tensor:
    logits = features.double() @ weight.T + bias
    log_probability = logits.log_softmax(dim=1)[torch.arange(len(labels)), labels]
    photo_weights = torch.ones(len(labels)) if class_weights is None else class_weights[labels]
    mean = -(photo_weights * log_probability).sum() / photo_weights.sum()
    return mean + strength / 2 * weight.square().sum()


def gradient_norm(solution: ExactSolution, features: Tensor, labels: Tensor, weights: Tensor | None) -> float:
    weight, bias = (value.double().requires_grad_() for value in (solution.weight, solution.bias))
    loss = objective(features, labels, weight, bias, solution.strength, weights)
    parts = torch.autograd.grad(loss, [weight, bias])
    return float(torch.cat([part.flatten() for part in parts]).norm())


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_vanishes(strength: float, weighted: bool) -> None:
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0]) if weighted else None
    features, labels, *held_out = data()
    solution = ExactPath(features, labels, held_out[0], held_out[1], weights).at(strength)
    assert solution.strength == strength
    assert gradient_norm(solution, features, labels, weights) < 1e-3
    # The measure sees an unsolved problem.
    zero = ExactSolution(strength, 0 * solution.weight, 0 * solution.bias, 0.0)
    assert gradient_norm(zero, features, labels, weights) > 0.1


def test_features_that_separate_the_classes_have_a_solution_too() -> None:
    features, labels, *held_out = data(noise=0.01)
    solution = solve(features, labels, held_out[0], held_out[1], None)
    assert gradient_norm(solution, features, labels, None) < 1e-3
    assert torch.equal(solution.logits(held_out[0]).argmax(dim=1), held_out[1])


def test_the_strength_with_the_least_validation_loss_is_chosen() -> None:
    chosen = solve(*data(), None)
    losses = {}
    for strength in STRENGTHS:
        losses[strength] = ExactPath(*data(), None).at(strength).validation_loss
    assert chosen.strength == min(losses, key=lambda strength: losses[strength])
    assert min(STRENGTHS) < chosen.strength < max(STRENGTHS)
    assert chosen.validation_loss == pytest.approx(min(losses.values()), rel=1e-4)


def test_the_validation_loss_is_that_of_the_solution() -> None:
    features, labels, validation, validation_labels = data()
    solution = solve(features, labels, validation, validation_labels, None)
    logits = solution.logits(validation)
    weight, bias = solution.weight.double(), solution.bias.double()
    expected = objective(validation, validation_labels, weight, bias, 0.0, None)
    assert solution.validation_loss == pytest.approx(float(expected), rel=1e-5)
    assert float(torch.nn.functional.cross_entropy(logits, validation_labels)) == pytest.approx(float(expected))


def test_the_path_ends_where_the_validation_split_says() -> None:
    features, labels, *_ = data()
    assert solve(features, labels, features, labels, None).strength == min(STRENGTHS)
    nonsense = torch.randint(0, CLASSES, (len(labels),), generator=torch.Generator().manual_seed(1))
    assert solve(features, labels, features, nonsense, None).strength == max(STRENGTHS)


def test_class_weights_draw_answers_to_their_class() -> None:
    features, labels, validation, validation_labels = data(noise=4)
    weights = torch.tensor([1.0, 1.0, 1.0, 20.0])
    plain, weighted = (
        solve(features, labels, validation, validation_labels, given).logits(validation).argmax(dim=1)
        for given in (None, weights)
    )
    assert int((weighted == 3).sum()) > int((plain == 3).sum())
    equal = solve(features, labels, validation, validation_labels, torch.full((CLASSES,), 3.0))
    torch.testing.assert_close(equal.weight, solve(*data(noise=4), None).weight, atol=1e-3, rtol=1e-3)


def test_the_seed_decides_nothing_and_is_not_touched() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = solve(*data(), None)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    other = solve(*data(), None)
    assert torch.equal(one.weight, other.weight)
    assert torch.equal(one.bias, other.bias)
    assert one.strength == other.strength


def test_inputs_and_threads_are_left_as_they_were() -> None:
    given = data()
    kept = [tensor.clone() for tensor in given]
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        solution = solve(*given, weights)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(now, before) for now, before in zip(given, kept, strict=True))
    assert torch.equal(weights, torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert not any(tensor.requires_grad for tensor in (*given, solution.weight, solution.bias))


def test_a_class_that_only_validation_has_gets_a_column() -> None:
    features, labels, validation, validation_labels = data()
    kept = labels < CLASSES - 1
    solution = solve(features[kept], labels[kept], validation, validation_labels, None)
    assert solution.weight.shape == (CLASSES, WIDTH)
    assert torch.isfinite(solution.logits(validation)).all()


def test_out_of_fold_is_what_the_solution_on_the_other_photos_says() -> None:
    features, labels, held_out, held_out_labels = data()
    path = ExactPath(features, labels, held_out, held_out_labels, None)
    folds = torch.arange(len(labels)) % 3
    trusted = torch.ones(len(labels), dtype=torch.bool)
    trusted[5] = False
    found = path.out_of_fold(0.03, folds, trusted)
    for fold in range(3):
        others = (folds != fold) & trusted
        alone = ExactPath(features[others], labels[others], held_out, held_out_labels, None).at(0.03)
        assert torch.allclose(found[folds == fold], alone.logits(features[folds == fold]).softmax(dim=1), atol=0.03)
