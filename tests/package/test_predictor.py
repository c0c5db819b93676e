from __future__ import annotations

import importlib.util
import io
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dogbreeds.data.images import UnreadableImageError
from dogbreeds.data.transform import Transform
from dogbreeds.errors import DataError, PackageError
from dogbreeds.features.store.blobs import BlobCache
from dogbreeds.model.backbones import cut, load_backbone
from dogbreeds.model.head import Head, HeadShape
from dogbreeds.model.network import Network
from dogbreeds.package import predictor as predictor_module
from dogbreeds.package.messages import Prediction
from dogbreeds.package.package import Description, load_package, save_package, write_description
from dogbreeds.package.predictor import Predictor
from dogbreeds.serve.batch import find_images, load, rows

CPU = torch.device("cpu")
FOUR = ["001.German_shepherd", "002.Pug", "003.Shih-Tzu", "West_Highland_white_terrier"]
#: The score of one photo, where it does not matter.
UNKNOWN = torch.zeros(1)
SEVEN = [f"{number:03}.Breed_{number}" for number in range(7)]


def described(classes: list[str], temperature: float = 2.0) -> Description:
    return Description(
        classes=classes,
        backbone="squeezenet1_1",
        pretrained=False,
        unfreeze="fire9",
        transform=Transform(70, 64, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        head=HeadShape("linear", 512, len(classes)),
        engine="torch",
        precision="fp32",
        temperature=temperature,
    )


def network(description: Description) -> Network:
    backbone = load_backbone("squeezenet1_1", "random", seed=3)
    trunk, tail = cut(backbone.stages, description.transform, description.unfreeze)
    head = Head(description.head).eval()
    with torch.inference_mode():
        features = tail(trunk(pixels(12)))
    head.normalise.fit(features)
    generator = torch.Generator().manual_seed(5)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return Network(trunk, tail, head)


def pixels(number: int, seed: int = 0) -> Tensor:
    """Images that differ in colour and in texture."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(number, 3, 1, 1, generator=generator)
    noise = torch.rand(number, 3, 64, 64, generator=generator) * torch.rand(number, 1, 1, 1, generator=generator)
    return ((colour + noise) / 2 * 255).to(torch.uint8)


def photo(seed: int, size: tuple[int, int] = (90, 80), form: str = "PNG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 25 * (seed + 1), (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, described(FOUR), network(described(FOUR)))
    return directory


@pytest.fixture(scope="module")
def predictor(package: Path) -> Predictor:
    return Predictor.load(package, CPU)


def of_classes(predictor: Predictor, classes: list[str], temperature: float) -> Predictor:
    return Predictor(described(classes, temperature), predictor.network, CPU)


# Ranking


def test_ranking_is_sorted_and_calibrated(predictor: Predictor) -> None:
    ranked = of_classes(predictor, FOUR, temperature=2.0).rank(torch.tensor([[1.0, 4.0, -2.0, 2.0]]), UNKNOWN)[0].top
    total = sum(math.exp(value / 2) for value in (1.0, 4.0, -2.0, 2.0))
    assert [one.index for one in ranked] == [1, 3, 0, 2]
    assert [one.breed for one in ranked] == ["Pug", "West Highland white terrier", "German shepherd", "Shih-Tzu"]
    expected = [math.exp(value / 2) / total for value in (4.0, 2.0, 1.0, -2.0)]
    assert [one.probability for one in ranked] == pytest.approx(expected)
    assert sum(one.probability for one in ranked) == pytest.approx(1)


def test_a_higher_temperature_is_less_sure_of_the_same_order(predictor: Predictor) -> None:
    logits = torch.tensor([[1.0, 4.0, -2.0, 2.0]])
    cold, hot = (of_classes(predictor, FOUR, value).rank(logits, UNKNOWN)[0].top for value in (0.5, 5.0))
    assert [one.index for one in cold] == [one.index for one in hot]
    assert cold[0].probability > 0.9 > 0.5 > hot[0].probability > 0.25


def test_five_of_more_classes_are_named(predictor: Predictor) -> None:
    logits = torch.tensor([[0.0, 6.0, 1.0, 5.0, 2.0, 4.0, 3.0]])
    ranked = of_classes(predictor, SEVEN, temperature=1.0).rank(logits, UNKNOWN)[0].top
    assert [one.index for one in ranked] == [1, 3, 5, 6, 4]
    assert ranked[0].breed == "Breed 1"
    every = logits.double().softmax(dim=1)[0]
    assert sum(one.probability for one in ranked) == pytest.approx(1 - float(every[0] + every[2]))


def test_every_row_is_ranked_for_itself(predictor: Predictor) -> None:
    rows = predictor.rank(torch.eye(4) * 3, torch.zeros(4))
    assert [row.top[0].index for row in rows] == [0, 1, 2, 3]


def test_a_photo_below_the_threshold_shows_none_of_the_breeds(predictor: Predictor) -> None:
    logits, scores = torch.eye(3, 4), torch.tensor([4.0, 3.9, 4.5])
    described = replace(predictor.description, known={"method": "largest logit", "threshold": 4.0})
    answers = Predictor(described, predictor.network, CPU).rank(logits, scores)
    assert [answer.known for answer in answers] == [True, False, True]
    assert [answer.score for answer in answers] == scores.tolist()
    assert {(answer.known, answer.score) for answer in predictor.rank(logits, scores)} == {(None, None)}


# Answers


def test_answers_do_not_depend_on_the_batch(predictor: Predictor) -> None:
    batch = pixels(70, seed=1)
    together = predictor.logits(batch)
    assert together.shape == (len(batch), len(FOUR))
    assert together.dtype == torch.float32
    assert float(together.std(dim=0).min()) > 1e-3
    # Activations are handed to the tail in half precision, which can magnify the last bit of a float.
    alone = torch.cat([predictor.logits(one[None]) for one in batch[-4:]])
    torch.testing.assert_close(together[-4:], alone, atol=5e-3, rtol=5e-3)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(predictor.logits(batch[order]), together[order], atol=5e-3, rtol=5e-3)


def test_classify_is_what_comes_behind_the_trunk(predictor: Predictor) -> None:
    batch = pixels(4, seed=1)
    assert torch.equal(predictor.classify(predictor.engine(batch)), predictor.logits(batch))


def test_predict_goes_from_bytes_to_breeds(predictor: Predictor) -> None:
    contents = [photo(seed, form=form) for seed, form in enumerate(("PNG", "JPEG", "WEBP", "BMP"))]
    answers = predictor.predict(contents)
    assert all(isinstance(one, Prediction) for answer in answers for one in answer.top)
    assert len(answers) == 4
    for content, answer in zip(contents, answers, strict=True):
        logits = predictor.logits(predictor.description.transform.read(content)[None])[0]
        assert answer.top[0].index == int(logits.argmax())
        expected = (logits.double() / 2).softmax(dim=0)
        by_class = sorted(answer.top, key=lambda one: one.index)
        # Activations for the tail are rounded to half precision, and batches of other sizes round ties differently.
        assert [one.probability for one in by_class] == pytest.approx(expected.tolist(), abs=1e-3)


def test_photos_of_any_size_become_the_crop(predictor: Predictor) -> None:
    for size in ((64, 64), (3, 200), (500, 40)):
        assert predictor.description.transform.read(photo(0, size)).shape == (3, 64, 64)


# The engine


class Kept(BlobCache):
    """A cache in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.content.get(name)

    def put(self, name: str, content: bytes) -> None:
        self.content[name] = content


def test_no_engine_is_started_before_it_is_needed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training scores its package with the features that it has."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(predictor_module, "build", never)
    predictor = Predictor.load(package, CPU)
    features = torch.rand(3, 512, 3, 3).half()
    assert predictor.classify(features).shape == (3, len(FOUR))
    predictor.rank(*predictor.scored(features))
    with pytest.raises(AssertionError, match="an engine was started"):
        predictor.logits(pixels(1))


def test_one_engine_serves_all_answers(predictor: Predictor) -> None:
    predictor.logits(pixels(1))
    assert predictor.engine is predictor.engine


def with_engine(package: Path, name: str, copy: Path) -> Path:
    shutil.copytree(package, copy)
    described, _ = load_package(copy)
    described.engine = name
    write_description(copy, described)
    return copy


def test_the_engine_of_the_training_answers(package: Path, tmp_path: Path) -> None:
    kept = Kept()
    compiled = with_engine(package, "openvino", tmp_path / "model")
    predictor, plain = Predictor.load(compiled, CPU, kept), Predictor.load(package, CPU)
    assert kept.content == {}
    batch = pixels(5, seed=1)
    logits = predictor.logits(batch)
    assert (predictor.engine.name, plain.engine.name) == ("openvino", "torch")
    torch.testing.assert_close(logits, plain.logits(batch), atol=1e-2, rtol=1e-2)
    # The converted network is kept.
    before = dict(kept.content)
    assert len(before) == 2
    assert torch.equal(Predictor.load(compiled, CPU, kept).logits(batch), logits)
    assert kept.content == before


@pytest.mark.parametrize("name", ["openvino", "cuda"])
def test_where_a_machine_has_no_other_engine_torch_answers(
    name: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    predictor = Predictor.load(with_engine(package, name, tmp_path / "model"), CPU)
    assert predictor.engine.name == "torch"
    assert torch.equal(predictor.logits(pixels(2)), Predictor.load(package, CPU).logits(pixels(2)))


@pytest.mark.gpu
def test_a_package_of_a_processor_answers_on_a_gpu(package: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    batch = pixels(5, seed=1)
    expected = Predictor.load(package, CPU).logits(batch)
    for trained, served in (("openvino", "cuda"), ("torch", "torch"), ("cuda", "cuda")):
        predictor = Predictor.load(with_engine(package, trained, tmp_path / trained))
        assert predictor.device.type == "cuda"
        assert predictor.engine.name == served
        torch.testing.assert_close(predictor.logits(batch), expected, atol=0.05, rtol=0.05)


def test_bytes_that_are_no_photo(predictor: Predictor) -> None:
    for content in (b"", b"no photo", photo(0)[:200]):
        with pytest.raises(UnreadableImageError):
            predictor.predict([photo(0), content])


# Finding photos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.jpg",
        "a.PNG",
        "deep/er/c.jpeg",
        "deep/d.webp",
        "notes.txt",
        ".hidden.jpg",
        "deep/e.tiff",
        ".git/f.jpg",
        "deep/.cache/g.jpg",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "photos" / "folder.jpg").mkdir()
    return tmp_path / "photos"


def found(pattern: object, folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images(str(pattern))]


def test_one_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert found(folder / "b.jpg", folder) == ["b.jpg"]
    assert found(folder / "notes.txt", folder) == ["notes.txt"]


def test_a_folder_is_searched_to_its_depth(folder: Path) -> None:
    assert found(folder, folder) == ["a.PNG", "b.jpg", "deep/d.webp", "deep/e.tiff", "deep/er/c.jpeg"]


def test_globs(folder: Path) -> None:
    assert found(f"{folder}/*", folder) == ["a.PNG", "b.jpg"]
    assert found(f"{folder}/*.jpg", folder) == ["b.jpg"]
    assert found(f"{folder}/**/*.jp*g", folder) == ["b.jpg", "deep/er/c.jpeg"]
    assert found(f"{folder}/[ab].*", folder) == ["a.PNG", "b.jpg"]


def test_names_that_look_like_globs(folder: Path, tmp_path: Path) -> None:
    strange = folder.rename(tmp_path / "photos [2024]*")
    assert found(strange, strange) == ["a.PNG", "b.jpg", "deep/d.webp", "deep/e.tiff", "deep/er/c.jpeg"]
    assert found(strange / "b.jpg", strange) == ["b.jpg"]
    assert found(f"{strange}/*.jpg", strange) == ["b.jpg"]
    assert found(f"{strange}/b.jpg,{strange}/a.PNG", strange) == ["b.jpg", "a.PNG"]
    assert found(f"{strange}/*.jpg,{strange}/*.PNG", strange) == ["b.jpg", "a.PNG"]


@pytest.mark.parametrize("pattern", ["missing", "missing/*.jpg", "*.avif", "deep/er/*.png", "folder.jpg", ".git/*.png"])
def test_naming_no_photo(pattern: str, folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_images(f"{folder}/{pattern}")
    assert f"images={folder}/{pattern} matches no photo (.jpg, " in str(caught.value)
    assert "Give a file, a folder or a quoted glob." in str(caught.value)


# Rows


def test_rows_keep_the_order_and_report_what_cannot_be_read(
    predictor: Predictor, package: Path, tmp_path: Path
) -> None:
    unreadable = {"1.png": b"no photo", "3.png": b"", "4.png": photo(4)[:200], "6.png": b"no photo"}
    # A batch in which nothing can be read, between others.
    unreadable |= {f"{number}.png": b"no photo" for number in range(10, 75)}
    contents = {f"{number}.png": photo(min(number, 9)) for number in range(80)} | unreadable
    paths = []
    for name, content in contents.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    paths.insert(2, tmp_path / "missing.png")
    paths.append(paths.pop(0).rename(tmp_path / "Épagneul.png"))
    contents["Épagneul.png"] = contents.pop("0.png")

    said = list(rows(load(package, tmp_path / "cache"), paths))
    assert [entry["path"] for entry, _ in said] == [str(path) for path in paths]
    for path, (entry, readable) in zip(paths, said, strict=True):
        assert readable is not (path.name in unreadable or path.name == "missing.png")
        if not readable:
            assert entry.keys() == {"path", "error"}
            assert entry["error"]
            continue
        answer = predictor.predict([contents[path.name]])[0].top
        assert entry.keys() == {"path", "breed", "index", "probability", "top"}
        assert (entry["breed"], entry["index"]) == (answer[0].breed, answer[0].index)
        assert entry["probability"] == pytest.approx(answer[0].probability, abs=1e-4)
        assert [one["index"] for one in entry["top"]] == [one.index for one in answer]
        assert entry["top"][0] == {key: entry[key] for key in ("breed", "index", "probability")}
    assert len({tuple(one["probability"] for one in entry.get("top", ())) for entry, _ in said}) > 3


def test_rows_of_a_package_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        list(rows(load(tmp_path, tmp_path / "cache"), [tmp_path / "a.jpg"]))


def test_rows_keep_the_converted_network(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = with_engine(package, "openvino", tmp_path / "model")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(photo(number))
    first = list(rows(load(compiled, tmp_path / "cache"), paths))

    import openvino

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the trunk was converted again")

    monkeypatch.setattr(openvino, "convert_model", never)
    assert list(rows(load(compiled, tmp_path / "cache"), paths)) == first
    assert not caplog.records
    # An engine that does not start is replaced by the one that always does.
    answered = list(rows(load(compiled, tmp_path / "another"), paths))
    assert "converted again). Use features.engine=torch. Using torch instead." in caplog.text
    assert [row["index"] for row, _ in answered] == [row["index"] for row, _ in first]


def test_rows_without_a_place_for_the_cache(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "a.png"
    path.write_bytes(photo(0))
    assert list(rows(load(package, tmp_path / "file" / "cache"), [path]))


def test_a_bad_photo_does_not_keep_the_others_from_being_answered(predictor: Predictor) -> None:
    photo = io.BytesIO()
    Image.new("RGB", (90, 80), (20, 120, 240)).save(photo, "WEBP")
    first, second, third = predictor.predict_each([photo.getvalue(), b"no photo", photo.getvalue()])
    assert isinstance(second, UnreadableImageError)
    assert not isinstance(first, UnreadableImageError)
    assert first == third
    # torch rounds differently in batches of other sizes.
    assert first.top[0].probability == pytest.approx(
        predictor.predict([photo.getvalue()])[0].top[0].probability, abs=1e-4
    )


@pytest.mark.slow
def test_where_there_are_many_photos_the_engine_takes_its_own_batches(package: Path, tmp_path: Path) -> None:
    compiled = with_engine(package, "openvino", tmp_path / "model")
    one_by_one, many = Predictor.load(compiled, CPU), Predictor.load(compiled, CPU, one_by_one=False)
    assert (one_by_one.engine.batch_size, many.engine.batch_size) == (1, 8)
    assert torch.equal(one_by_one.logits(pixels(5)), many.logits(pixels(5)))
