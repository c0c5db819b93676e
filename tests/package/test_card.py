from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dogbreeds.data.folders import BreedFolders
from dogbreeds.data.splits import Photo
from dogbreeds.model.paired import interval
from dogbreeds.package.card import write_card
from dogbreeds.package.package import read_description, save_package, write_description
from tests.package.test_predictor import described, network

#: One that Markdown and HTML would both take for their own, and two that ImageNet has too.
CLASSES = ["001.<script>|`a`_[b](c)", "002.Pug", "003.Beagle"]
CONFUSION = np.array([[2, 2, 0], [0, 4, 0], [1, 0, 3]])
METRICS: dict[str, Any] = {
    "test/accuracy": 0.75,
    "test/macro_f1": 0.7421,
    "test/top5_accuracy": 1.0,
    "test/per_class_accuracy": [0.5, 1.0, 0.75],
    "test/calibration_error": 0.021,
    "test/calibration_error_uncalibrated": 0.09,
    "reference/test_accuracy": 0.8,
    "in_several_splits": 0,
    "debug": False,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run") / "model"
    save_package(directory, described(CLASSES), network(described(CLASSES)))
    return directory


@pytest.fixture
def package(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def card(package: Path, photo: str = "test/003.Beagle/1.jpg", metrics: dict[str, Any] = METRICS, **model: Any) -> str:
    """Writes the card of a package whose test photos are all called `photo`."""
    known = {"pretrained": True, "photos": {"train": 30, "valid": 6, "test": 12}, "made": "2026-11-22", **model}
    write_description(package, replace(read_description(package), **known))
    splits = dict.fromkeys(("train", "valid", "test"), (Photo(Path(photo), 2, "1", photo),) * 12)
    root = package.parent / "secret place" / "dogs: 🐕 'n <b>"
    write_card(package, BreedFolders(root, tuple(CLASSES), splits, (), (), (), False), metrics, CONFUSION)
    return (package / "README.md").read_text(encoding="utf-8")


def test_the_card_has_the_form_of_hubs(package: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    text = card(package, licence="BSD-3-Clause")
    read = hub.ModelCard(text).data
    assert (read.license, read.library_name, read.pipeline_tag) == ("bsd-3-clause", "dogbreeds", "image-classification")
    assert read.tags == ["dogbreeds", "safetensors", "torchvision", "squeezenet1_1"]
    assert read.model_name == "dogs: 🐕 'n <b>-squeezenet1_1"
    found = {result.metric_type: (result.metric_value, result.dataset_name) for result in read.eval_results}
    assert found == {"accuracy": (0.75, "dogs: 🐕 'n <b>"), "f1": (0.7421, "dogs: 🐕 'n <b>")}


@pytest.mark.parametrize(
    ("licence", "written"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
        ("not stated", {"license": "unknown"}),
        ("", {"license": "unknown"}),
    ],
)
def test_a_licence_that_hubs_do_not_know_has_its_name(licence: str, written: dict[str, str], package: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    text = card(package, licence=licence, weights="mine.pth")
    assert "| Its weights | from a file, mine.pth |" in text
    read = hub.ModelCard(text).data.to_dict()
    assert {name: value for name, value in read.items() if name.startswith("license")} == written
    unknown = (
        "| Their licence | unknown: ask where they come from, and write it here and as `license` in the first lines |"
    )
    assert (unknown in text) == (written["license"] == "unknown")


def test_the_card_says_how_good_and_how_weak_the_model_is(package: Path) -> None:
    text = card(package)
    low, high = interval(0.75, 12)
    assert f"| Accuracy | 75.0% | {100 * low:.1f}% to {100 * high:.1f}% |" in text
    # Of three classes the right one is always among five.
    assert "five most probable" not in text
    hardest = text[text.index("Hardest") : text.index("Most frequent")]
    assert hardest.index("| 2 of 4 | 50% |") < hardest.index("| Beagle | 3 of 4 | 75% |")
    assert "Pug" not in hardest
    assert "| Pug | 2 (50% of the class) |" in text
    assert "30 training photos, 6 validation photos, 12 test photos" in text
    assert "secret place" not in text
    assert "numbers mean nothing" not in text
    debugged = card(package, metrics=METRICS | {"debug": True, "in_several_splits": 1}, pretrained=False)
    assert "model-index" not in debugged and "numbers mean nothing" in debugged
    assert "1 photo appears in more than one split" in debugged
    assert "random weights" in debugged and "Their licence" not in debugged


@pytest.mark.parametrize(
    ("photo", "weights", "said"),
    [
        ("test/Beagle/n02088364_10108.jpg", "imagenet1k_v2", "The backbone, which was pretrained on ImageNet"),
        ("n02088364-beagle/1.jpg", "mine.pth", "A backbone that was pretrained on ImageNet, as most are"),
        ("ILSVRC2012_val_00003004.JPEG", "mine.pth", "12 test photos have a name from ImageNet"),
        ("test/003.Beagle/1.jpg", "ft_in22k_in1k", "ImageNet has 2 of these 3 classes too. The backbone, which"),
    ],
)
def test_the_card_says_that_the_backbone_may_have_seen_the_photos(
    photo: str, weights: str, said: str, package: Path
) -> None:
    text = card(package, photo, weights=weights)
    assert said in text
    assert ("**Perhaps.**" in text) == photo.endswith("Beagle/1.jpg")
    assert "seen the test photos" not in card(package, photo, pretrained=False)


def test_names_mean_nothing_to_markdown(package: Path) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    body = card(package).split("---\n", 2)[2]
    page = markdown_it.MarkdownIt("js-default", {"html": True}).render(body)
    assert page.count("<td>&lt;script&gt;|`a` [b](c)</td>") == 3
    assert "3 classes of dogs: 🐕 'n &lt;b&gt;, by squeezenet1_1</h1>" in page
