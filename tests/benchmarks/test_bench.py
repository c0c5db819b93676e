"""The benchmark measures what it says: turns, ratios of the same round, photos that differ, results that add up."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import accuracy, equivalence, head, known, processes, scale, search, store, trials, trunk, watching
from benchmarks.photos import enlarge
from benchmarks.pixel_loop import LoopTimes
from benchmarks.plain_loop import Size
from benchmarks.settings import BenchSettings
from benchmarks.table import Section, write
from benchmarks.timing import Times, paired, ratio, seconds_of
from safetensors.torch import save_file
from torchvision.models import get_model

from dogbreeds.data.images import decode
from dogbreeds.errors import UserError
from dogbreeds.machine import machine
from dogbreeds.model.network import Graph
from tests.conftest import Compose
from tests.package.test_predictor import photo

pytestmark = pytest.mark.ci


@pytest.fixture
def settings(config: Compose, sample: Path) -> BenchSettings:
    return BenchSettings(config(), sample, count=30, rounds=2, weights=None, backbone="squeezenet1_1")


def test_contestants_take_turns_in_alternating_order() -> None:
    order: list[str] = []

    def contestant(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    times = paired({"a": lambda: contestant("a", 4.0), "b": lambda: contestant("b", 2.0)}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert times == {"a": Times((4.0, 4.0, 4.0)), "b": Times((2.0, 2.0, 2.0))}


def test_ratio_compares_within_rounds() -> None:
    assert ratio(Times((2.0, 20.0, 3.0)), Times((1.0, 10.0, 1.0))) == 2.0
    assert Times((3.0, 1.0, 2.0)).median == 2.0
    assert Times((3.0, 1.0, 2.0)).spread == "1.00 to 3.00"
    assert 0 <= seconds_of(lambda: None) < 1


def test_enlarged_photos_differ_in_bytes_and_not_in_pixels(sample: Path, tmp_path: Path) -> None:
    originals = sorted(sample.rglob("*.jpg"))
    count = 2 * len(originals) + 3
    made = sorted(enlarge(sample, tmp_path / "photos", count).rglob("*.jpg"))
    assert len(made) == len({path.read_bytes() for path in made}) == count
    pixels = Counter(decode(path.read_bytes()).tobytes() for path in made)
    assert set(pixels) == {decode(path.read_bytes()).tobytes() for path in originals}
    assert {path.parts[-3] for path in made} == {"train", "valid", "test"}


def test_fewer_photos_than_there_are(sample: Path, tmp_path: Path) -> None:
    assert len(list(enlarge(sample, tmp_path / "photos", 5).rglob("*.jpg"))) == 5


def test_cases_that_did_not_run_keep_their_results(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write([Section("head", "Heads.", ("a", "b"), [("1", "2")], {"ratio": 1.23456})], page, 1.0)
    write([Section("trunk", "Trunks.", ("c",), [("3",)], {"ratio": 5.0})], page, 1.25)
    text = page.read_text()
    assert "## head\n\nHeads.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |" in text
    assert "## trunk" in text
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert numbers["head"]["numbers"] == {"ratio": 1.2346}
    assert numbers["trunk"]["machine"].items() >= (machine() | {"noise": "1.25"}).items()


def test_head_case(settings: BenchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_SIZE", Size(300, 50, 16, 10))
    section = head.run(settings)
    assert section.numbers["ratio"] > 0
    assert "300 x 16" in section.text


def test_watching_case(settings: BenchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_SIZE", Size(300, 50, 16, 10))
    monkeypatch.setattr(watching, "_SECONDS", 0.2)
    section = watching.run(settings)
    assert section.numbers["watching_over_alone"] > 0
    assert section.numbers["recorder_over_alone_processor"] > 0
    assert [row[0] for row in section.rows] == ["a fit alone", "with recorder and rules", "with everything"]


def test_equivalence_case(settings: BenchSettings) -> None:
    numbers = equivalence.run(settings).numbers
    assert numbers["squeezenet1_1 torch fp32 cosine"] == pytest.approx(1.0)
    assert numbers["squeezenet1_1 torch fp32 agreement"] == 1.0
    assert numbers["squeezenet1_1 torch bf16 cosine"] > 0.99
    assert 0.9 < numbers["squeezenet1_1 openvino int8 cosine"] < 0.99999


def test_cases_of_whole_processes(settings: BenchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*arguments: str) -> float:
        commands.append(arguments)
        asked = [int(one.split("=")[1]) for one in arguments if one.startswith("hpo.trials=")]
        return 50.0 + 2.5 * sum(asked) if "-m" in arguments else 50.0

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(processes, "pixel_loop", lambda folder, photos: LoopTimes(10.0, 2.0, 1.0, 0.5))
    monkeypatch.setattr(trunk, "_quantised", lambda cache: Graph(b"", b""))
    rates = {
        f"{part}, {way}": rate
        for part, rate in (("forward pass alone", 200), ("both in turn", 80))
        for way in ("auto", "int8")
    }
    monkeypatch.setattr(trunk, "_parts", lambda *_: rates | {"decoding alone": 100.0})
    passes = trunk.run(settings).numbers
    assert passes["against_fp32"] == pytest.approx((10 + 30 * 1.0) / 50)
    assert passes["int8_networks_kept"] == 1.0
    assert passes["share_of_slower_part_int8"] == pytest.approx(0.8)
    found = search.run(settings).numbers
    assert found["search_over_pass"] == pytest.approx(1.2)
    train = sum(1 for _ in settings.photos.glob("train/*/*.jpg"))
    assert train == 36
    measured = trials.run(settings).numbers
    assert measured["trial_seconds"] == pytest.approx(2.5)
    assert measured["seconds_beyond_a_run"] == pytest.approx(32 * 2.5)
    assert measured["trial_over_loop"] == pytest.approx(2.5 / measured["loop_seconds"], rel=0.9)
    monkeypatch.setattr(store, "_PHOTOS", 20)
    assert store.run(settings).numbers["run_over_imports"] == pytest.approx(1.0)
    scripts = {argument for command in commands for argument in command if argument.endswith(".py")}
    assert scripts == {"scripts/prepare_features.py", "train.py"}


def test_a_run_finds_the_drawn_features(settings: BenchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_CLASSES", 3)
    monkeypatch.setattr(scale, "_EPOCHS", 1)
    section = scale.run(replace(settings, sizes=(60,)))
    names = [row[0] for row in section.rows]
    assert {"index", "features", "reference", "audit", "training", processes.WHOLE} <= set(names)
    assert section.numbers["60 whole run gigabytes"] > 0.1


def test_process_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="no such thing"):
        processes.run("-c", "raise SystemExit('no such thing')")
    assert processes.run("-c", "pass") > 0


def test_the_accuracy_of_a_backbone_in_every_way(
    settings: BenchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "_GRID", ("lr=0.01,0.1", "epochs=2"))
    save_file(get_model("squeezenet1_1").state_dict(), tmp_path / "squeezenet1_1_drawn.safetensors")
    section = accuracy.run(replace(settings, weights=str(tmp_path), fine_tune_epochs=1))
    (row,) = section.rows
    assert row[0] == "squeezenet1_1"
    assert len(row) == len(section.columns)
    shares = {name: value for name, value in section.numbers.items() if name.endswith("accuracy")}
    assert len(shares) == 11
    assert all(0 <= value <= 1 for value in shares.values())
    with pytest.raises(UserError, match="needs a folder"):
        accuracy.run(settings)


def test_which_photos_are_told_from_the_breeds(settings: BenchSettings, tmp_path: Path) -> None:
    save_file(get_model("squeezenet1_1").state_dict(), tmp_path / "squeezenet1_1_drawn.safetensors")
    given = replace(settings, weights=str(tmp_path))
    for seed, kind in enumerate(("noise", "more")):
        (tmp_path / "strangers" / kind).mkdir(parents=True)
        (tmp_path / "strangers" / kind / "1.png").write_bytes(photo(seed))
    section = known.run(replace(given, strangers=str(tmp_path / "strangers")))
    (row,) = section.rows
    assert len(row) == len(section.columns) == 7
    assert len(section.numbers) == 3 * 6 and all(0 <= share <= 1 for share in section.numbers.values())
    assert "18 test photos known / 1 more unknown / 1 noise unknown" in section.text
    with pytest.raises(UserError, match="strangers=None"):
        known.run(given)
