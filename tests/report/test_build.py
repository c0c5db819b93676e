"""report.html: what it says of runs that ended, go on or broke off, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dogbreeds.errors import ConfigError, PackageError, UserError
from dogbreeds.report.build import build_report
from dogbreeds.report.page import plotly_script
from dogbreeds.report.run import read_run
from dogbreeds.run_directory import REPORT
from tests.report.synthetic import Drawn

pytestmark = pytest.mark.slow

SECTIONS = [
    *(
        "numbers",
        "learning",
        "rules",
        "confusion",
        "calibration",
        "photos",
        "audit",
        "data",
        "tensors",
        "system",
        "timing",
    ),
    "settings",
]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    return Drawn(tmp_path / "run")


def page(directory: Path, *, live: bool = False) -> str:
    """The page without the script of plotly."""
    target = build_report(directory, live=live)
    assert target == directory / REPORT
    text = target.read_text()
    assert plotly_script() in text
    return text.replace(plotly_script(), "")


def sections(text: str) -> list[str]:
    return [name for name in re.findall(r'<section id="([a-z]+)"', text) if name != "verdict"]


def figures(text: str, name: str) -> list[dict[str, object]]:
    (found,) = re.findall(rf'id="chart-{name}">.*?<script type="application/json">(.*?)</script>', text, re.DOTALL)
    parsed: list[dict[str, object]] = json.loads(found)
    return parsed


def words(text: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)))


def test_a_finished_run_has_all_sections_in_their_order(drawn: Drawn) -> None:
    text = page(drawn.everything())
    assert sections(text) == SECTIONS
    assert "Not in this report" not in text
    links = re.findall(r'<li><a href="#([a-z]+)"', text)
    assert links == ["verdict", *SECTIONS]


def test_nothing_comes_from_elsewhere(drawn: Drawn) -> None:
    text = page(drawn.everything())
    assert set(re.findall(r'href="([^"#]+)"', text)) == {"data:,", "profiler/trace.json.gz"}
    assert set(re.findall(r'src="(.{5})', text)) <= {"data:"}
    assert not re.search(r"@import|url\(|https?:", text)
    assert "default-src 'none'" in text


def test_every_chart_has_words_and_valid_figures(drawn: Drawn) -> None:
    text = page(drawn.everything())
    charts = re.findall(r'<figure class="chart" id="chart-([a-z-]+)">', text)
    assert len(charts) == len(set(charts)) > 12
    labels = re.findall(r'class="plot" role="img" aria-label="([^"]+)"', text)
    assert len(labels) == len(charts)
    assert all(label.endswith(".") and len(label) > 30 for label in labels)
    for name in charts:
        for figure in figures(text, name):
            assert set(figure) == {"data", "layout"}


def test_a_run_without_anything_but_its_config(drawn: Drawn) -> None:
    text = page(drawn.config())
    assert sections(text) == ["settings", "missing"]
    assert "did not finish; last written" in text
    assert "python train.py data.dir=nowhere/dog_breeds model=resnet50" in text


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("history", ["numbers", "learning"]),
        ("metrics", ["numbers", "calibration", "data"]),
        ("record", ["learning", "tensors"]),
        ("facts", ["data"]),
        ("rules", ["rules"]),
        ("measurements", ["system", "timing"]),
        ("operators", ["timing"]),
        ("predictions", ["calibration", "photos"]),
    ],
)
def test_each_file_alone_makes_its_sections(part: str, expected: list[str], drawn: Drawn) -> None:
    drawn.config()
    getattr(drawn, part)()
    text = page(drawn.directory)
    assert sections(text) == [*expected, "settings", "missing"]


@pytest.mark.parametrize(
    "missing", ["history.csv", "rules.json", "debugger/record.jsonl", "debugger/facts.json", "predictions.csv"]
)
def test_each_file_may_be_missing(missing: str, drawn: Drawn) -> None:
    drawn.everything()
    (drawn.directory / missing).unlink()
    assert "finished" in page(drawn.directory)


def test_the_page_of_an_unfinished_run_says_how_far_it_is_and_reloads(drawn: Drawn) -> None:
    drawn.config()
    drawn.history()
    drawn.predictions()
    text = page(drawn.directory, live=True)
    assert re.search(r"running, epoch 4 of 10, as of \d\d:\d\d<", text)
    assert '<meta http-equiv="refresh"' in text
    assert "So far 87.5% of the validation photos classified correctly" in text
    assert "photos" not in sections(text)
    assert 'http-equiv="refresh" content' not in page(drawn.directory)


def test_a_run_that_can_be_resumed_says_how(drawn: Drawn) -> None:
    drawn.config()
    (drawn.directory / "checkpoints").mkdir()
    (drawn.directory / "checkpoints/last.ckpt").touch()
    assert f"python train.py resume={drawn.directory}" in page(drawn.directory)


def test_a_directory_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} has no config\.yaml"):
        build_report(tmp_path)


def test_what_others_wrote_is_text(drawn: Drawn) -> None:
    drawn.everything()
    hostile = "</script><script>alert(1)</script>"
    drawn.folders = [f"001.{hostile}", *drawn.folders[1:]]
    drawn.metrics()
    drawn.facts()
    drawn.predictions()
    text = page(drawn.directory)
    assert "<script>alert" not in text
    assert "alert(1)" in words(text)
    names = figures(text, "confusion")[1]["data"][0]["x"]  # type: ignore[index]
    assert names[0] == "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


def test_fired_rules_come_first_and_open_and_name_breeds_as_people_do(drawn: Drawn) -> None:
    text = page(drawn.everything())
    found = re.findall(r'<details class="rule" (open)?>.*?<b>(\w+)</b>', text, re.DOTALL)
    assert found == [
        ("open", "Overfit"),
        ("open", "Confusion"),
        ("open", "ExplodingTensor"),
        ("", "AllZero"),
        ("", "StalledTrainingRule"),
    ]
    assert "64% of Breed 1 terrier are classified correctly" in text
    assert "001.Breed_1_terrier are classified" not in text
    # The advice of the worst one, and what it comes to.
    assert "Try fewer epochs." in text
    assert "data.views=4</code>" in text


def test_the_machine_has_a_gpu_or_has_none(drawn: Drawn) -> None:
    drawn.config()
    drawn.measurements()
    assert "This machine has no GPU" in page(drawn.directory)
    drawn.measurements(gpus=2)
    text = page(drawn.directory)
    assert "no GPU" not in text
    assert "GPU 1 memory" in words(text)
    assert figures(text, "gpu")


def test_photos_are_shown_upright_small_and_with_words(drawn: Drawn, tmp_path: Path) -> None:
    drawn.everything()
    drawn.config(data={"dir": str(tmp_path / "photos")})
    text = page(drawn.directory)
    assert "None of these photos could be read from" in words(text)
    assert "nophoto" not in text.partition("</style>")[2]
    for line in (drawn.directory / "predictions.csv").read_text().splitlines()[1:]:
        path = tmp_path / "photos" / line.split(",")[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), "teal").save(path)
    text = page(drawn.directory)
    images = re.findall(r'<img src="data:image/webp;base64,[^"]+" alt="([^"]+)"', text.partition('id="audit"')[0])
    assert images
    assert all(
        re.fullmatch(r"Photo of Breed \d \w+, (correctly )?classified as Breed \d \w+ with \d+%", alt) for alt in images
    )
    assert "be read from" not in words(text)


def test_mistakes_show_where_the_model_looked(drawn: Drawn, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn.everything()
    drawn.metrics(pretrained=True)
    drawn.config(data={"dir": str(tmp_path / "photos")})
    for line in (drawn.directory / "predictions.csv").read_text().splitlines()[1:]:
        path = tmp_path / "photos" / line.split(",")[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), "teal").save(path)
    run, asked = read_run(drawn.directory), list[tuple[Path, int]]()
    wrong = [one for one in run.predictions if one.split == "test" and not one.correct]

    def draw(photo: Path, index: int) -> bytes:
        asked.append((photo, index))
        return photo.read_bytes()

    def explain(metrics: Mapping[str, Any]) -> Callable[[Path, int], bytes]:
        assert metrics == run.metrics
        return draw

    text = build_report(drawn.directory, explain=explain).read_text()
    assert set(asked) == {(tmp_path / "photos" / one.path, run.classes.index(one.answer)) for one in wrong}
    assert 0 < len(asked) <= 12
    switch = '<input type="checkbox" role="switch" id="look">'
    assert switch in text and text.count('class="looked"') == len(asked)
    assert f"Where the model looked for {run.name(wrong[0].answer)} in a photo of {run.name(wrong[0].breed)}" in text

    def refuses(error: UserError, metrics: Mapping[str, Any]) -> Callable[[Path, int], bytes]:
        raise error

    for error, told in ((ConfigError("a network without maps"), 0), (PackageError("of another run"), 1)):
        caplog.clear()
        assert switch not in build_report(drawn.directory, explain=partial(refuses, error)).read_text()
        assert [record.args for record in caplog.records] == [(error,)] * told
    drawn.metrics(pretrained=False)
    asked.clear()
    assert switch not in build_report(drawn.directory, explain=explain).read_text() and not asked


@pytest.mark.parametrize("relative", [False, True], ids=["whole path", "current folder"])
@pytest.mark.parametrize("elsewhere", ["../secret.png", "{folder}/secret.png"], ids=["up", "absolute"])
def test_a_photo_outside_the_photos_stays_out_of_the_page(
    elsewhere: str, relative: bool, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run directory may be somebody else's, and its page be sent on."""
    drawn.everything()
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    drawn.config(data={"dir": "." if relative else str(tmp_path / "photos")})
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "secret.png")
    table = drawn.directory / "predictions.csv"
    named = re.sub(r"(?m)^test,[^,]+", f"test,{elsewhere.format(folder=tmp_path)}", table.read_text())
    table.write_text(named)
    text = page(drawn.directory)
    assert "secret.png" in text
    assert "<img" not in text


def test_sizes_grow_with_the_classes_and_not_with_their_square(tmp_path: Path) -> None:
    classes, sizes = (10, 150, 1500), []
    for number in classes:
        directory = Drawn(tmp_path / str(number), classes=number).everything()
        text, metrics = page(directory), (directory / "metrics.json").read_text()
        assert text.count(f"Breed {number} ") >= 2
        assert metrics.count("\n") < 60
        sizes.append((len(text), len(metrics)))
    assert "Drawn are the 150 breeds of 1,500 with the most mistakes." in text
    for small, middle, large in zip(*sizes, strict=True):
        # Bytes for each further class.
        assert (large - middle) / 1350 < 1.1 * (middle - small) / 140


def test_older_runs_have_their_confusions_in_the_metrics(drawn: Drawn) -> None:
    drawn.everything()
    drawn.metrics(dense=True)
    (drawn.directory / "predictions.csv").unlink()
    assert "confusion" in sections(page(drawn.directory))
    assert read_run(drawn.directory).record.confusion["valid"].shape == (3, 3)


@pytest.mark.ci
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 500)], ids=["light", "dark and narrow"])
def test_a_browser_draws_all_charts_without_an_error(dark: bool, width: int, drawn: Drawn, tmp_path: Path) -> None:
    """The page forbids all requests, so one that it tried to make would be an error on the console."""
    target = build_report(drawn.everything())
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *("--enable-logging=stderr", f"--window-size={width},20000", "--virtual-time-budget=20000", "--dump-dom"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"),
        target.as_uri(),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "CONSOLE" not in answer.stderr
    charts = len(re.findall(r'<figure class="chart"', answer.stdout))
    assert charts > 12
    assert len(re.findall(r'class="plot js-plotly-plot"', answer.stdout)) == charts
    assert f">{'Light' if dark else 'Dark'} theme</button>" in answer.stdout
