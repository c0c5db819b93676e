"""Labels that were changed are found; right ones are not."""

from __future__ import annotations

import torch
from torch import Tensor

from dogbreeds.model.exact import ExactPath
from dogbreeds.model.suspects import Suspects, suspect_labels

CLASSES, WIDTH, PHOTOS = 5, 20, 300


def clouds(seed: int, photos: int) -> tuple[Tensor, Tensor]:
    """Photos of five classes, of which a linear head knows nearly all."""
    generator = torch.Generator().manual_seed(seed)
    centres = 5 * torch.eye(CLASSES, WIDTH)
    labels = torch.arange(photos) % CLASSES
    return centres[labels] + torch.randn(photos, WIDTH, generator=generator), labels


def judged(labels: Tensor) -> Suspects:
    return suspect_labels(ExactPath(clouds(0, PHOTOS)[0], labels, *clouds(1, 200), None), labels)


def test_changed_labels_are_the_first() -> None:
    _, right = clouds(0, PHOTOS)
    clean = judged(right)
    assert len(clean.photos) < 0.15 * PHOTOS
    assert clean.confident <= clean.expected
    # Photos of the first class.
    changed = torch.arange(0, PHOTOS, 20)
    labels = right.clone()
    labels[changed] = torch.arange(len(changed)) % (CLASSES - 1) + 1
    found = judged(labels)
    assert len(set(found.photos[:20].tolist()) & set(changed.tolist())) >= 14
    assert found.confident > 2 * found.expected + 3
    assert (found.probabilities.diff() >= 0).all()
    first = found.photos[0]
    assert found.suggested[0] == right[first] != labels[first]


def test_a_class_of_few_photos_is_not_judged() -> None:
    _, labels = clouds(0, PHOTOS)
    # Three photos that look like the others of their old classes.
    labels[:3] = CLASSES - 1
    only = (labels == CLASSES - 1).nonzero().squeeze(1)[3:]
    labels[only] = 0
    assert not set(judged(labels).photos.tolist()) & {0, 1, 2}


def test_a_class_that_is_contradicted_as_a_whole_is_still_learned_from() -> None:
    """Two folders of one breed: each photo looks like the other folder too, and neither disappears."""
    _, labels = clouds(0, PHOTOS)
    twins = (labels == 0).nonzero().squeeze(1)
    labels[twins[::2]] = 1
    found = judged(labels)
    assert 0 < len(found.photos) < PHOTOS / 2
