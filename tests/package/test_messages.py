from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.package.messages import (
    JSON,
    Answer,
    HttpError,
    Prediction,
    PredictRequest,
    as_json,
    format_response,
    from_json,
    parse_request,
)

PHOTO = b"\xff\xd8\xfb\xef\xbf not really"
TEXT = base64.b64encode(PHOTO).decode()
PUG = Answer([Prediction("Pug", 1, 0.75), Prediction("Beagle", 0, 0.25)])
MAX_PIXELS = 10**6
BEAGLE = Answer([Prediction("Beagle, small", 0, 0.5), Prediction("Pug", 1, 0.5)], known=False, score=2.34567891)


def refusal(body: bytes, kind: str = JSON, max_photos: int = 2, max_pixels: int = MAX_PIXELS) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        parse_request(body, kind, max_photos, max_pixels)
    said = json.loads(caught.value.body())
    assert said == {"error": {"code": caught.value.code, "message": caught.value.message}}
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG; q=1", "image/*", "application/octet-stream"])
def test_the_bytes_of_a_photo(kind: str) -> None:
    assert parse_request(PHOTO, kind, 1, MAX_PIXELS) == PredictRequest((PHOTO,), many=False)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/jpeg;base64,{TEXT}",
        f"data:image/jpeg;charset=utf-8;base64,\n {TEXT}",
        "\r\n".join(TEXT[place : place + 4] for place in range(0, len(TEXT), 4)) + "\n",
        base64.encodebytes(PHOTO).decode().replace("", " ").strip(),
        base64.urlsafe_b64encode(PHOTO).decode(),
        TEXT.rstrip("="),
        f"{TEXT}==",
    ],
    ids=["plain", "data", "data with more", "lines", "spaces", "for addresses", "no padding", "much padding"],
)
def test_photos_in_json(text: str) -> None:
    one = json.dumps({"id": 7, "image": text, "parameters": {}}).encode()
    assert parse_request(one, f"{JSON}; charset=utf-8", 1, MAX_PIXELS) == PredictRequest((PHOTO,), many=False)
    several = json.dumps({"instances": [{"image": text}, {"image": text, "id": 1}], "parameters": {}}).encode()
    assert parse_request(several, "application/json", 2, MAX_PIXELS) == PredictRequest((PHOTO, PHOTO), many=True)


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "application/x-npy"])
def test_other_content_types(kind: str) -> None:
    assert refusal(PHOTO, kind) == (415, "unsupported_content_type")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"image": "' + b"\x00" + b'"}'])
def test_broken_json(body: bytes) -> None:
    assert refusal(body) == (400, "broken_json")


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [],
        {},
        {"image": None},
        {"image": ["a"]},
        {"image": TEXT, "instances": [{"image": TEXT}]},
        {"instances": TEXT},
        {"instances": []},
        {"instances": [TEXT]},
        {"instances": [{"image": TEXT}, {"photo": TEXT}]},
    ],
)
def test_json_without_a_photo(value: object) -> None:
    assert refusal(json.dumps(value).encode()) == (400, "no_photo")


@pytest.mark.parametrize("text", ["?", "Q", "QQ==QQ", "ä", "QUJD\0"])
def test_broken_base64(text: str) -> None:
    assert refusal(json.dumps({"image": text}).encode()) == (400, "broken_base64")


def test_too_many_photos() -> None:
    body = json.dumps({"instances": [{"image": TEXT}] * 3}).encode()
    assert refusal(body, max_photos=2) == (413, "too_many_photos")
    assert len(parse_request(body, "application/json", 3, MAX_PIXELS).photos) == 3


def test_photos_of_a_request_share_the_limit_of_pixels() -> None:
    file = io.BytesIO()
    Image.new("L", (20, 10)).save(file, "PNG")
    two = json.dumps({"instances": [{"image": base64.b64encode(file.getvalue()).decode()}] * 2}).encode()
    assert len(parse_request(two, "application/json", 2, 400).photos) == 2
    assert refusal(two, max_pixels=399) == (413, "too_many_pixels")
    # A JPEG that is decoded at an eighth of its size.
    Image.new("L", (160, 20)).save(file := io.BytesIO(), "JPEG")
    two = json.dumps({"instances": [{"image": base64.b64encode(file.getvalue()).decode()}] * 2}).encode()
    assert len(parse_request(two, "application/json", 2, 800).photos) == 2
    assert refusal(two, max_pixels=799) == (413, "too_many_pixels")


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/json", "text/html, application/json;q=0.9", "text/csv, */*"]
)
def test_an_answer_in_json(accept: str) -> None:
    body, kind = format_response([PUG], accept, many=False)
    assert kind == "application/json"
    assert json.loads(body) == {
        "prediction": 1,
        "breed": "Pug",
        "probability": 0.75,
        "top": [
            {"breed": "Pug", "index": 1, "probability": 0.75},
            {"breed": "Beagle", "index": 0, "probability": 0.25},
        ],
    }


def test_answers_to_a_list_are_a_list_even_of_one() -> None:
    body, _ = format_response([PUG], "", many=True)
    assert [from_json(answer) for answer in json.loads(body)["predictions"]] == [PUG]
    assert from_json(as_json(BEAGLE)) == replace(BEAGLE, score=2.345679)


def test_an_answer_says_whether_the_photo_shows_a_breed_at_all() -> None:
    body, _ = format_response([BEAGLE], "", many=False)
    answer = json.loads(body)
    assert (answer["known"], answer["score"]) == (False, 2.345679)
    assert json.loads(format_response([replace(PUG, known=True, score=3.0)], "", many=False)[0])["known"] is True


def test_an_answer_in_csv() -> None:
    body, kind = format_response([PUG, BEAGLE], "text/csv", many=True)
    assert (body, kind) == (b'1,Pug,0.75\n0,"Beagle, small",0.5,false,2.345679\n', "text/csv; charset=utf-8")


def test_an_answer_in_no_form_that_there_is() -> None:
    with pytest.raises(HttpError, match="image/png") as caught:
        format_response([PUG], "image/png", many=False)
    assert caught.value.status == 406


def test_all_photos_of_a_request_are_answered_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = UnreadableImageError("not an image")
    assert PredictRequest((b"", b""), many=True).predictions([PUG, BEAGLE]) == [PUG, BEAGLE]
    with pytest.raises(HttpError, match=r"instances\[1\]") as caught:
        PredictRequest((b"", b""), many=True).predictions([PUG, bad])
    assert (caught.value.status, caught.value.code) == (422, "unreadable_image")
    monkeypatch.setattr("dogbreeds.data.images._heif_opener", lambda: True)
    with pytest.raises(HttpError, match=r"The photo cannot be read .*, AVIF, HEIC\."):
        PredictRequest((b"",), many=False).predictions([bad])
