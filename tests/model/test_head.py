from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from dogbreeds.model.head import FeatureNormalisation, Head, HeadShape

WIDTH, CLASSES = 32, 5


def features(number: int = 200, seed: int = 0) -> Tensor:
    """Skewed like pooled activations: positive, with columns of different size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(WIDTH, generator=generator) * 3
    return torch.rand(number, WIDTH, generator=generator).square() * sizes


def fitted(training: Tensor) -> FeatureNormalisation:
    normalisation = FeatureNormalisation(training.shape[1])
    normalisation.fit(training)
    return normalisation


# Normalisation


def test_training_features_become_centred_and_of_unit_size() -> None:
    training = features()
    normal = fitted(training)(training)
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(WIDTH), atol=1e-5, rtol=0)
    assert float(normal.square().mean()) == pytest.approx(1, abs=1e-4)


def test_one_scale_for_all_columns_keeps_their_proportions() -> None:
    training = features()
    normal = fitted(training)(training)
    expected = nn.functional.layer_norm(training, (WIDTH,)).std(dim=0)
    torch.testing.assert_close(
        normal.std(dim=0) / normal.std(), expected / expected.square().mean().sqrt(), atol=0.01, rtol=0.01
    )
    assert float(normal.std(dim=0).max() / normal.std(dim=0).min()) > 2


@pytest.mark.parametrize(("factor", "shift"), [(100.0, 0.0), (1.0, 40.0), (100.0, -7.0), (0.5, 0.0)])
def test_a_backbone_of_another_scale_gives_the_same(factor: float, shift: float) -> None:
    training, other = features(), features(50, seed=1)
    expected = fitted(training)(other)
    actual = fitted(training * factor + shift)(other * factor + shift)
    torch.testing.assert_close(actual, expected, atol=2e-3, rtol=2e-3)


def test_the_scale_of_one_photo_does_not_matter() -> None:
    normalisation = fitted(features())
    photo = features(1, seed=1)
    torch.testing.assert_close(normalisation(photo * 10 + 3), normalisation(photo), atol=1e-3, rtol=1e-3)


def test_dead_columns_stay_finite_and_small() -> None:
    training = features()
    training[:, 3] = 0
    training[:, 7] = 5
    normal = fitted(training)(training)
    assert normal.isfinite().all()
    assert float(normal.abs().max()) < 20


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_features_that_are_the_same_everywhere_are_not_blown_up(value: float) -> None:
    for training in (torch.full((10, WIDTH), value), features(1).expand(10, WIDTH) + value):
        normal = fitted(training)(training)
        assert normal.isfinite().all()
        assert float(normal.abs().max()) < 1


def test_features_of_half_precision_are_normalised_in_full() -> None:
    training = features()
    normal = fitted(training)(training.bfloat16())
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal, fitted(training)(training), atol=0.1, rtol=0.1)


# The head


def test_a_linear_head_starts_with_uniform_answers_and_learns_from_there() -> None:
    training = features()
    head = Head(HeadShape("linear", WIDTH, CLASSES))
    assert float(head(training).detach().std()) > 0
    head.initialise(training)
    logits = head(training)
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((len(training), CLASSES), 1 / CLASSES))
    nn.functional.cross_entropy(logits, torch.arange(len(training)) % CLASSES).backward()
    linear = head.layers[-1]
    assert isinstance(linear, nn.Linear)
    assert linear.weight.grad is not None
    assert float(linear.weight.grad.abs().max()) > 0


def test_only_the_layers_are_trained() -> None:
    head = Head(HeadShape("linear", WIDTH, CLASSES))
    assert sorted(name for name, _ in head.named_parameters()) == ["layers.0.bias", "layers.0.weight"]


def test_the_shape_of_an_mlp() -> None:
    head = Head(HeadShape("mlp", WIDTH, CLASSES, hidden=(16, 8), dropout=0.5))
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(WIDTH, 16), (16, 8), (8, CLASSES)]
    assert [layer.p for layer in head.layers if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    head.initialise(features())
    assert head(features(7)).shape == (7, CLASSES)
    # An MLP that starts at zero would never learn.
    assert all(float(layer.weight.detach().abs().max()) > 0 for layer in linear)


def test_dropout_acts_in_training_alone() -> None:
    head = Head(HeadShape("mlp", WIDTH, CLASSES, hidden=(16,), dropout=0.5))
    head.initialise(features())
    batch = features(7, seed=1)
    assert not torch.equal(head(batch), head(batch))
    head.eval()
    assert torch.equal(head(batch), head(batch))


def test_a_linear_head_ignores_hidden_layers() -> None:
    assert len(Head(HeadShape("linear", WIDTH, CLASSES, hidden=(16,))).layers) == 1


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_state_dict_round_trip(hidden: tuple[int, ...]) -> None:
    shape = HeadShape("mlp" if hidden else "linear", WIDTH, CLASSES, hidden)
    head, batch = Head(shape).eval(), features(20, seed=1)
    head.normalise.fit(features())
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    other = Head(shape).eval()
    assert not torch.equal(other(batch), head(batch))
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other(batch), head(batch))
    torch.testing.assert_close(other.normalise.mean, head.normalise.mean)
    assert float(other.normalise.scale) != 1


def test_the_score_is_the_largest_logit_and_of_an_mlp_also_the_size_that_its_normalisation_hides() -> None:
    batch = features(7)
    linear, mlp = (Head(HeadShape(kind, WIDTH, CLASSES, (16, 8), 0.5)).eval() for kind in ("linear", "mlp"))
    assert all(torch.equal(head.scored(batch)[0], head(batch)) for head in (linear, mlp))
    assert torch.equal(linear.scored(batch)[1], linear(batch).amax(dim=1))
    logits, scores = mlp.scored(batch)
    for parameter in mlp.layers[0].parameters():
        parameter.data *= 2
    torch.testing.assert_close(mlp(batch), logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mlp.scored(batch)[1], 2 * scores, rtol=1e-3, atol=1e-3)
