"""What is asked and answered over HTTP, whoever listens: the bytes of requests and of answers.

A request is the bytes of one photo, or JSON: `{"image": <base64>}` or `{"instances": [{"image": <base64>}, ...]}`.
An answer is JSON, or CSV where that is accepted only; a refusal is JSON always.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dogbreeds.data.images import FORMATS, UnreadableImageError, pixels_of

#: Digits of probabilities.
_DIGITS = 6
JSON, CSV, BYTES = "application/json", "text/csv", "application/octet-stream"
_KINDS = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
_FORMS = 'JSON is {"image": <base64>} or {"instances": [{"image": <base64>}, ...]}'


class Refused(Exception):
    """A request that gets no answer.

    Attributes:
        status: Of HTTP, 400 or above.
        code: A word for programs, such as `unreadable_image`.
        message: A sentence for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        """Takes what the answer will say."""
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> bytes:
        """Returns the answer, which is JSON."""
        return _json({"error": {"code": self.code, "message": self.message}})


@dataclass(frozen=True)
class Ranked:
    """One breed of an answer: its name as people read it, its class index, its calibrated probability."""

    breed: str
    index: int
    probability: float


@dataclass(frozen=True)
class Question:
    """A request.

    Attributes:
        photos: The bytes of its photos, which nobody has looked at yet.
        many: Whether they came as a list, which is answered by a list.
    """

    photos: tuple[bytes, ...]
    many: bool

    def ranked(self, answers: Sequence[list[Ranked] | UnreadableImageError]) -> list[list[Ranked]]:
        """Returns the answers of a request: all of them, or none.

        Args:
            answers: What a handler says of the photos.

        Raises:
            Refused: One of them is no image.
        """
        ranked = []
        for position, answer in enumerate(answers):
            if isinstance(answer, UnreadableImageError):
                place = f"instances[{position}]" if self.many else "The photo"
                raise Refused(422, "unreadable_image", f"{place} cannot be read ({answer}): {_KINDS} is.")
            ranked.append(answer)
        return ranked


def question_of(body: bytes, content_type: str, most_photos: int | None) -> Question:
    """Reads a request.

    Args:
        body: As it came.
        content_type: What the client says it is; parameters behind a semicolon are ignored.
        most_photos: In one request; None is no limit.

    Raises:
        Refused: 400 for JSON that is broken or has no photos, 413 for too many or too large ones, 415 for another
            content type.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == BYTES or kind.startswith("image/"):
        return Question((body,), many=False)
    if kind != JSON:
        given = repr(kind) if kind else "nothing"
        raise Refused(415, "unsupported_content_type", f"Content-Type says {given}: send image/*, {BYTES} or {JSON}.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "broken_json", f"The body is not JSON ({error}).") from error
    if isinstance(asked, dict) and set(asked) == {"image"}:
        return Question((_photo(asked["image"], "image"),), many=False)
    if isinstance(asked, dict) and set(asked) == {"instances"} and isinstance(asked["instances"], list):
        return _several(asked["instances"], most_photos)
    raise Refused(400, "no_photo", f"There is no photo in this JSON. {_FORMS}.")


def answer_to(ranked: Sequence[Sequence[Ranked]], accept: str, *, many: bool) -> tuple[bytes, str]:
    """Writes an answer.

    JSON has `prediction` (the class index), `breed`, `probability` and `top`, or a list of such under `predictions`.
    CSV has a line for each photo: class index, breed, probability.

    Args:
        ranked: For each photo the breeds, the most probable first.
        accept: The header of that name; empty accepts anything.
        many: Whether a list is answered.

    Returns:
        The body, and its content type.

    Raises:
        Refused: 406, where neither is accepted.
    """
    if _accepted(accept) == JSON:
        answers = [as_json(one) for one in ranked]
        return _json({"predictions": answers} if many else answers[0]), JSON
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for one in ranked:
        writer.writerow((one[0].index, one[0].breed, round(one[0].probability, _DIGITS)))
    return file.getvalue().encode(), f"{CSV}; charset=utf-8"


def as_json(ranked: Sequence[Ranked]) -> dict[str, Any]:
    """Returns the answer for one photo as it stands in JSON."""
    top = [{"breed": one.breed, "index": one.index, "probability": round(one.probability, _DIGITS)} for one in ranked]
    return {
        "prediction": top[0]["index"],
        "breed": top[0]["breed"],
        "probability": top[0]["probability"],
        "top": top,
    }


def from_json(answer: dict[str, Any]) -> list[Ranked]:
    """Reads back what `as_json` returned.

    Raises:
        KeyError: It is something else.
        TypeError: It is something else.
    """
    return [Ranked(**one) for one in answer["top"]]


def check_accept(accept: str) -> None:
    """Refuses a request before it costs anything, whose answer would not be accepted.

    Raises:
        Refused: 406.
    """
    _accepted(accept)


def _several(instances: list[Any], most_photos: int | None) -> Question:
    if not instances:
        raise Refused(400, "no_photo", f"instances is empty. {_FORMS}.")
    if most_photos is not None and len(instances) > most_photos:
        raise Refused(413, "too_many_photos", f"{len(instances)} photos in one request: {most_photos} at most.")
    photos = []
    for position, one in enumerate(instances):
        place = f"instances[{position}]"
        if not (isinstance(one, dict) and set(one) == {"image"}):
            raise Refused(400, "no_photo", f"{place} has no photo. {_FORMS}.")
        photos.append(_photo(one["image"], f"{place}.image"))
    # A few bytes can be many pixels: together they may be no more than one photo, or others would wait for them.
    most_pixels = Image.MAX_IMAGE_PIXELS
    if most_pixels is not None and len(photos) > 1 and sum(map(pixels_of, photos)) > most_pixels:
        raise Refused(
            413, "too_many_pixels", f"The photos have more than {most_pixels:,} pixels together: send fewer."
        )
    return Question(tuple(photos), many=True)


def _photo(text: object, place: str) -> bytes:
    if not isinstance(text, str):
        raise Refused(400, "no_photo", f"{place} must be a photo's bytes in base64, as text.")
    # As browsers write what was read from a file.
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, "broken_base64", f"{place} is not base64 ({error}).") from error


def _accepted(accept: str) -> str:
    """Returns the content type of an answer; JSON where the client takes either."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",") if kind.strip()]
    if not kinds or any(kind in ("*/*", "application/*", JSON) for kind in kinds):
        return JSON
    if any(kind in (CSV, "text/*") for kind in kinds):
        return CSV
    raise Refused(406, "unacceptable", f"Accept says {accept!r}: there is {JSON} and {CSV}.")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
