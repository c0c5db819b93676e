"""Training labels that the other photos contradict.

Confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70): the probability of a photo's own label, said by a
model that was not trained on the photo, then by one that has not learned from what looked wrong at first either.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dogbreeds.model.exact import ExactPath

# Of 45 changed labels of 900 the first 60 photos hold 36.8 by the probabilities of one draw of folds, 38.6 where a
# second model does not learn from contradicted labels below `_DISTRUSTED`, and 39.2 by the odds of two draws
# (SqueezeNet, ten seeds).
_FOLDS, _DRAWS = 5, 2
_DISTRUSTED = 0.1
#: Of a label that is wrong with confidence.
_CONFIDENT = 0.005
_TINY = 1e-30


@dataclass(frozen=True)
class Suspects:
    """Training photos whose most probable class is not their label, the least probable label first.

    A label's probability is its share of the sum of both: p(label) / (p(label) + p(suggested)).

    Attributes:
        photos: int64 (n,), positions in the training split.
        suggested: int64 (n,), the most probable class.
        probabilities: float32 (n,), of the label against the suggested class.
        confident: Photos whose label has a probability below 0.5% among all classes.
        expected: How many of them there would be if all labels were right and all probabilities calibrated: the sum
            of all probabilities below 0.5%.
    """

    photos: Tensor
    suggested: Tensor
    probabilities: Tensor
    confident: int
    expected: float


def suspect_labels(path: ExactPath, labels: Tensor, pictures: Tensor) -> Suspects:
    """Judges each training label by the exact solutions on the photos of other pictures.

    They have the L2 strength that suits the validation photos best. Classes with fewer pictures than folds are not
    judged.

    Args:
        pictures: int64 (N,), the picture that each of them shows. Copies share one, and so cannot vouch for each
            other.
    """
    strength = path.best().strength
    draws = [_judged_twice(path, strength, labels, pictures, draw) for draw in range(_DRAWS)]
    # The geometric mean.
    probabilities = torch.stack([draw.clamp_min(_TINY).log() for draw in draws]).mean(dim=0).softmax(dim=1)
    judged = torch.stack([labels, pictures]).unique(dim=1)[0].bincount()[labels] >= _FOLDS
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    most, answers = probabilities.max(dim=1)
    odds = own / (own + most)
    photos = (judged & (answers != labels)).nonzero().squeeze(1)
    photos = photos[odds[photos].argsort(stable=True)]
    improbable = probabilities[judged]
    confident = int((own[photos] < _CONFIDENT).sum())
    return Suspects(photos, answers[photos], odds[photos], confident, float(improbable[improbable < _CONFIDENT].sum()))


def _judged_twice(path: ExactPath, strength: float, labels: Tensor, pictures: Tensor, draw: int) -> Tensor:
    """The probabilities (N, classes) out of fold, by models that have not learned from what looked wrong at first."""
    folds = _folds(labels, pictures, draw)
    first = path.out_of_fold(strength, folds, torch.ones(len(labels), dtype=torch.bool))
    return path.out_of_fold(strength, folds, _trusted(first, labels))


def _trusted(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Which photos the second models learn from: bool (N,); of a class that is contradicted as a whole, all."""
    own = probabilities.gather(1, labels[:, None]).squeeze(1)
    doubted = (probabilities.argmax(dim=1) != labels) & (own < _DISTRUSTED)
    shares = labels.bincount(doubted.double()) / labels.bincount()
    return ~doubted | (shares[labels] > 0.5)


def _folds(labels: Tensor, pictures: Tensor, draw: int) -> Tensor:
    """The fold of each photo, int64 (N,): drawn by picture, with equally many pictures of each class in all folds."""
    found, members = pictures.unique(return_inverse=True)
    # A picture whose photos have several labels counts as one of the first of these classes.
    classes = torch.full_like(found, int(labels.max())).scatter_reduce(0, members, labels, "amin")
    generator = torch.Generator().manual_seed(draw)
    shuffled = torch.randperm(len(found), generator=generator)
    order = shuffled[classes[shuffled].argsort(stable=True)]
    folds = torch.empty_like(found)
    folds[order] = torch.arange(len(found)) % _FOLDS
    return folds[members]
