"""Photos worth a look: labels that others contradict, near-duplicates, outliers; found once, then remembered."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from torch import Tensor

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.layout import SPLITS
from dogbreeds.data.likeness import ALIKE, SIDE, likeness, thumbnail
from dogbreeds.data.splits import Photo
from dogbreeds.features.engines import worker_count
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.exact import ExactPath
from dogbreeds.model.neighbours import near_pairs, oddness
from dogbreeds.model.rows import Rows
from dogbreeds.model.suspects import suspect_labels

log = logging.getLogger(__name__)

# Raise it with any change to what is found.
_VERSION = 3
# Cosines from which pairs are worth a look at their pixels; within them, the backbone's own distribution decides. Of
# 180 re-encoded, cropped and mirrored photos the lowest cosine was 0.81 with four backbones.
_LOWEST, _HIGHEST = 0.75, 0.85
# Pairs whose pixels are compared, the nearest first: so many, and one for every fourth photo.
_LOOKS = 100
# Robust standard deviations from which a photo is an outlier, as Iglewicz and Hoaglin (1993) recommend.
_OUTLYING = 3.5


@dataclass(frozen=True)
class Findings:
    """What an audit found; photos are positions in train, valid and test, one after the other.

    Attributes:
        judged: int64 (), training photos whose labels were judged.
        suspects: int64 (n,), training photos, the least probable label first; `suggested` is the most probable class,
            `probabilities` of the label against it.
        confidence: float32 (2,): see `Suspects.confident` and `Suspects.expected`.
        copies: int64 (m, 2), pairs that show the same picture, the likest first; `likenesses` of their pixels.
        skipped: int64 (), pairs with similar features whose pixels were not compared, because they were too many.
        outliers: int64 (k,), the oddest first; `oddnesses` in robust standard deviations.
    """

    judged: Tensor
    suspects: Tensor
    suggested: Tensor
    probabilities: Tensor
    confidence: Tensor
    copies: Tensor
    likenesses: Tensor
    skipped: Tensor
    outliers: Tensor
    oddnesses: Tensor


@torch.no_grad()
def find(
    folders: BreedFolders,
    normalised: Rows,
    path: ExactPath,
    judged: Tensor,
    problem: str,
    blobs: BlobCache,
    workers: int | None,
) -> Findings:
    """Audits photos, or remembers what an earlier audit of the same photos found.

    Args:
        normalised: What the head makes of the features of train, valid and test, one after the other (N, width):
            centred, each photo at its own scale.
        path: Learned from the training photos at the positions `judged`, whose labels it judges.
        problem: Digest of photos, features and class weights.
    """
    name = f"audit-{_VERSION}-{problem}"
    kept = blobs.get(name)
    if kept is not None:
        return Findings(**load(kept))
    photos = [photo for split in SPLITS for photo in folders.splits[split]]
    train = len(folders.splits["train"])
    labels = torch.tensor([photo.label for photo in photos])
    copies, likenesses, skipped = _copies(photos, normalised, worker_count(workers))
    suspects = suspect_labels(path, labels[judged], _pictures(photos, copies)[judged])
    odd = oddness(normalised, labels, torch.arange(len(labels)) < train)
    outliers = (odd > _OUTLYING).nonzero().squeeze(1)
    outliers = outliers[odd[outliers].argsort(descending=True, stable=True)]
    found = Findings(
        torch.tensor(len(judged)),
        judged[suspects.photos],
        suspects.suggested,
        suspects.probabilities,
        torch.tensor([suspects.confident, suspects.expected]),
        copies,
        likenesses,
        torch.tensor(skipped),
        outliers,
        odd[outliers],
    )
    blobs.put(name, save({field: values.contiguous() for field, values in vars(found).items()}))
    return found


def _copies(photos: list[Photo], normalised: Rows, workers: int) -> tuple[Tensor, Tensor, int]:
    """Pairs of photos that show the same picture, how like they are, and how many pairs were too many to compare."""
    near = near_pairs(normalised, _LOWEST, _HIGHEST)
    looks = _LOOKS + len(photos) // 4
    pairs = torch.stack([near.first, near.second], dim=1)[:looks]
    wanted = sorted({photos[position] for position in pairs.flatten().tolist()}, key=lambda photo: photo.path)
    with ThreadPoolExecutor(workers) as pool:
        small = dict(zip(wanted, pool.map(_thumbnail, wanted), strict=True))
    if not wanted:
        return pairs, torch.zeros(0), 0
    sides = [[photos[position] for position in side] for side in pairs.T.tolist()]
    found = likeness(*(torch.stack([small[photo] for photo in side]) for side in sides))
    same = [one.digest == other.digest for one, other in zip(*sides, strict=True)]
    found = torch.where(torch.tensor(same), 1.0, found)
    order = found.argsort(descending=True, stable=True)
    order = order[found[order] >= ALIKE]
    return pairs[order], found[order], max(0, len(near.cosine) - looks)


def _pictures(photos: list[Photo], copies: Tensor) -> Tensor:
    """The picture that each photo shows, int64 (N,): one for equal bytes, pairs that look the same, chains."""
    first: dict[str, int] = {}
    same = [[position, first.setdefault(photo.digest, position)] for position, photo in enumerate(photos)]
    one, other = torch.cat([torch.tensor(same), copies]).T
    pictures = torch.arange(len(photos))
    while not torch.equal(pictures[one], pictures[other]):
        # Each pair takes the lower number, which moves on along the chains.
        lower = torch.minimum(pictures[one], pictures[other])
        pictures = pictures.scatter_reduce(0, one, lower, "amin").scatter_reduce(0, other, lower, "amin")
    return pictures


def _thumbnail(photo: Photo) -> Tensor:
    try:
        return thumbnail(photo.path.read_bytes())
    except (OSError, UnreadableImageError) as error:
        log.warning("%s cannot be compared with photos like it: %s", photo.path, error)
        # Of one colour, and so like no other.
        return torch.zeros(SIDE, SIDE)
