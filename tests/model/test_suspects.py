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
    return judged_of(clouds(0, PHOTOS)[0], labels, torch.arange(PHOTOS))


def judged_of(features: Tensor, labels: Tensor, pictures: Tensor) -> Suspects:
    return suspect_labels(ExactPath(features, labels, *clouds(1, 200), None), labels, pictures)


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


def test_copies_do_not_vouch_for_each_other() -> None:
    """Photos that are there three times, wrong labels too, are judged as if they were there once."""
    features, right = clouds(0, PHOTOS)
    changed = torch.arange(0, PHOTOS, 20)
    labels = right.clone()
    labels[changed] = torch.arange(len(changed)) % (CLASSES - 1) + 1
    pictures = torch.arange(PHOTOS).repeat(3)
    copied = features.repeat(3, 1), labels.repeat(3)
    once, thrice = judged(labels), judged_of(*copied, pictures)
    assert sorted(pictures[thrice.photos].tolist()) == once.photos.repeat(3).sort().values.tolist()
    torch.testing.assert_close(thrice.probabilities, once.probabilities.repeat_interleave(3), atol=0.02, rtol=0)
    vouched = judged_of(*copied, torch.arange(3 * PHOTOS))
    assert vouched.confident < thrice.confident == 3 * once.confident


def test_a_class_of_few_pictures_is_not_judged_however_many_copies_there_are() -> None:
    features, labels = clouds(0, PHOTOS)
    labels[labels == CLASSES - 1] = 0
    labels[:30] = CLASSES - 1
    pictures = torch.arange(PHOTOS)
    pictures[:30] %= 4
    assert not set(judged_of(features, labels, pictures).photos.tolist()) & set(range(30))


def test_a_picture_with_two_labels_is_judged_by_others() -> None:
    features, labels = clouds(0, PHOTOS)
    # Twins of the first ten photos, which are of all classes, each with the next label.
    features, labels = torch.cat([features, features[:10]]), torch.cat([labels, (labels[:10] + 1) % CLASSES])
    pictures = torch.cat([torch.arange(PHOTOS), torch.arange(10)])
    found = judged_of(features, labels, pictures).photos.tolist()
    assert len(set(found[:15]) & set(range(PHOTOS, PHOTOS + 10))) >= 8
