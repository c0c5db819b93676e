"""HTTP requests and responses as bytes, independent of the server.

A request is the bytes of one photo, or JSON: `{"image": <base64>}` or `{"instances": [{"image": <base64>}, ...]}`.
Its other keys do not matter. A response is JSON, or CSV where the client accepts nothing else; an error is JSON.
"""

import base64
import binascii
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dogbreeds.data.images import UnreadableImageError, formats, pixels_of

#: Digits of probabilities.
_DIGITS = 6
JSON, CSV, BYTES = "application/json", "text/csv", "application/octet-stream"
_FORMS = 'JSON is {"image": <base64>} or {"instances": [{"image": <base64>}, ...]}'


class HttpError(Exception):
    """An error instead of predictions: its HTTP status, and a word for programs such as `unreadable_image`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> bytes:
        return _json({"error": {"code": self.code, "message": self.message}})


@dataclass(frozen=True)
class Prediction:
    """One breed with its display name, class index and calibrated probability."""

    breed: str
    index: int
    probability: float


@dataclass(frozen=True)
class Answer:
    """What a model says about one photo: the best breeds, most probable first, and whether it shows one of its breeds.

    `known` says whether its `score`, how much it looks like one of them, reaches the threshold of the package. Both are
    None in answers of packages that were made without one.
    """

    top: Sequence[Prediction]
    known: bool | None = None
    score: float | None = None

    @property
    def breed(self) -> str:
        return self.top[0].breed

    @property
    def probability(self) -> float:
        return self.top[0].probability

    @property
    def familiarity(self) -> dict[str, bool | float]:
        """`known` and the rounded `score`; empty where they are None."""
        if self.known is None or self.score is None:
            return {}
        return {"known": self.known, "score": round(self.score, _DIGITS)}


@dataclass(frozen=True)
class PredictRequest:
    """A parsed request: undecoded photos, and whether they came as a list; the response is then a list too."""

    photos: tuple[bytes, ...]
    many: bool

    def predictions(self, found: Sequence[Answer | UnreadableImageError]) -> list[Answer]:
        """Returns the answers for all photos; one unreadable photo fails the request with status 422."""
        result = []
        for position, one in enumerate(found):
            if isinstance(one, UnreadableImageError):
                place = f"instances[{position}]" if self.many else "The photo"
                raise HttpError(422, "unreadable_image", f"{place} cannot be read ({one}): send one of {formats()}.")
            result.append(one)
        return result


def parse_request(body: bytes, content_type: str, max_photos: int, max_pixels: int) -> PredictRequest:
    """Parses the body of a request.

    Args:
        content_type: The header of that name; parameters after a semicolon are ignored.
        max_pixels: Of all photos together, where there are several.

    Raises:
        HttpError: 400 for JSON that is broken or has no photos, 413 for too many or too large photos, 415 for another
            content type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == BYTES or kind.startswith("image/"):
        return PredictRequest((body,), many=False)
    if kind != JSON:
        given = f"Content-Type {kind!r} is not supported" if kind else "There is no Content-Type"
        raise HttpError(415, "unsupported_content_type", f"{given}: send image/*, {BYTES} or {JSON}.")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "broken_json", f"The body is not valid JSON ({error}).") from error
    keys = {"image", "instances"}.intersection(values) if isinstance(values, dict) else ()
    if keys == {"image"}:
        return PredictRequest((_photo(values["image"], "image"),), many=False)
    if keys == {"instances"} and isinstance(values["instances"], list):
        return PredictRequest(_several(values["instances"], max_photos, max_pixels), many=True)
    raise HttpError(400, "no_photo", f"There is no photo in this JSON. {_FORMS}.")


def format_response(predictions: Sequence[Answer], accept: str, *, many: bool) -> tuple[bytes, str]:
    """Returns the body of a response and its content type.

    JSON has `prediction` (the class index), `breed`, `probability`, `known`, `score` and `top`, or a list of such under
    `predictions`. CSV has a line for each photo: class index, breed, probability, known, score. An empty header
    `accept` accepts anything.

    Raises:
        HttpError: 406, the client accepts neither JSON nor CSV.
    """
    if accepted(accept) == JSON:
        values = [as_json(one) for one in predictions]
        return _json({"predictions": values} if many else values[0]), JSON
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for one in predictions:
        best = one.top[0]
        familiarity = map(json.dumps, one.familiarity.values())
        writer.writerow((best.index, best.breed, round(best.probability, _DIGITS), *familiarity))
    return file.getvalue().encode(), f"{CSV}; charset=utf-8"


def as_json(answer: Answer) -> dict[str, Any]:
    top = [
        {"breed": one.breed, "index": one.index, "probability": round(one.probability, _DIGITS)} for one in answer.top
    ]
    best = {"prediction": top[0]["index"], "breed": top[0]["breed"], "probability": top[0]["probability"]}
    return {**best, **answer.familiarity, "top": top}


def from_json(values: dict[str, Any]) -> Answer:
    """Reads back what `as_json` returned; raises KeyError or TypeError for anything else."""
    return Answer([Prediction(**one) for one in values["top"]], values.get("known"), values.get("score"))


def accepted(accept: str) -> str:
    """Returns the content type of a response: JSON unless the client accepts CSV alone."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",") if kind.strip()]
    if not kinds or any(kind in ("*/*", "application/*", JSON) for kind in kinds):
        return JSON
    if any(kind in (CSV, "text/*") for kind in kinds):
        return CSV
    raise HttpError(406, "unacceptable", f"Accept {accept!r} is not supported: use {JSON} or {CSV}.")


def _several(instances: list[Any], max_photos: int, max_pixels: int) -> tuple[bytes, ...]:
    if not instances:
        raise HttpError(400, "no_photo", f"instances is empty. {_FORMS}.")
    if len(instances) > max_photos:
        raise HttpError(413, "too_many_photos", f"At most {max_photos} photos (limits.photos), got {len(instances)}.")
    photos = []
    for position, one in enumerate(instances):
        place = f"instances[{position}]"
        if not (isinstance(one, dict) and "image" in one):
            raise HttpError(400, "no_photo", f"{place} has no photo. {_FORMS}.")
        photos.append(_photo(one["image"], f"{place}.image"))
    # A few bytes can be many pixels: one request must not occupy the workers longer than the largest photo would.
    if len(photos) > 1 and sum(map(pixels_of, photos)) > max_pixels:
        message = f"The photos have more than {max_pixels:,} pixels together (limits.pixels): send fewer."
        raise HttpError(413, "too_many_pixels", message)
    return tuple(photos)


def _photo(text: object, place: str) -> bytes:
    if not isinstance(text, str):
        raise HttpError(400, "no_photo", f"{place} must be the base64 text of a photo's bytes.")
    # Browsers put "data:image/jpeg;base64," in front, mail programs break lines, links have other signs and no end.
    plain = "".join(text.split()).replace("-", "+").replace("_", "/")
    plain = (plain.partition(",")[2] if plain.startswith("data:") else plain).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(400, "broken_base64", f"{place} is not base64 ({error}).") from error


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
