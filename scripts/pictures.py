"""Make the pictures of the README and of docs/ anew: python scripts/pictures.py photos=photos weights=weights.pth."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from PIL import Image, ImageOps

from dogbreeds.entry import entry_point
from dogbreeds.errors import UserError
from dogbreeds.files import replacing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ROOT = Path(__file__).parents[1]
_BROWSERS = ("chromium", "google-chrome", "chromium-browser")
# Of a picture: pixels for each of a page, fewer where it is wide anyway, so that it is sharp on any screen.
_SCALE, _WIDE_SCALE = 2, 1.5
_COLORS, _FRAME_WIDTH, _SIDE = 256, 2, 224
# Examples of a package that are shown with where the network looked.
_LOOKED = ("1.jpg", "3.jpg", "5.jpg")
# As docs/search.md has it.
_SEARCH = ("-m", "hpo=random", "hpo.trials=32", "epochs=5,10,20")
_FRAME = "#c9d1d6"
_ALL_DRAWN = "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg'))"


@dataclass(frozen=True)
class Made:
    """What is pictured: a run, a search, drawn dogs beside where a network looked, and a server that shows them."""

    browser: Browser
    run: Path
    search: Path
    looked: Sequence[Path]
    server: str

    def opened(
        self, address: str, width: int, height: int, scale: float = _SCALE, *, dark: bool = False, phone: bool = False
    ) -> Page:
        """Opens a page without movements."""
        page = self.browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            has_touch=phone,
            is_mobile=phone,
            bypass_csp=True,
        )
        page.goto(address)
        return page


def report(made: Made) -> list[bytes]:
    """The verdict in light, the confusions in dark."""
    return [
        _charts(made.opened((made.run / "report.html").as_uri(), 660, 860)),
        _charts(made.opened((made.run / "report.html").as_uri(), 660, 860, dark=True), "confusion"),
    ]


def search(made: Made) -> list[bytes]:
    """The opening of a search, its course and its learning curves."""
    return [_charts(made.opened((made.search / "search.html").as_uri(), 900, 1620))]


def page(made: Made) -> list[bytes]:
    """A sure answer on a desktop in light, an unsure one on a phone in dark."""
    return [
        _answer(made.opened(made.server, 1000, 720, _WIDE_SCALE), 0),
        _answer(made.opened(made.server, 390, 720, _WIDE_SCALE, dark=True, phone=True), 5),
    ]


def looked(made: Made) -> list[bytes]:
    """Drawn dogs, each beside where the network looked."""
    return [_thumbnail(path) for path in made.looked]


PICTURES = {"report.png": report, "search.png": search, "page.png": page, "looked.png": looked}


def _thumbnail(path: Path) -> bytes:
    file = io.BytesIO()
    ImageOps.fit(Image.open(path).convert("RGB"), (_SIDE, _SIDE)).save(file, "PNG")
    return file.getvalue()


def _charts(page: Page, place: str = "") -> bytes:
    """Pictures a page of charts, from its top or from a section on."""
    # Whoever took the photos was not asked.
    page.add_style_tag(content="img { visibility: hidden }")
    page.wait_for_function(_ALL_DRAWN)
    if place:
        page.locator(f"#{place}").evaluate("(section) => section.scrollIntoView()")
    return page.screenshot()


def _answer(page: Page, example: int) -> bytes:
    """Pictures the server's page with its answer about an example."""
    page.locator("#thumbs button").nth(example).click()
    page.wait_for_selector("#answer .percent")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_load_state("networkidle")
    return page.screenshot()


def _save(shots: Sequence[bytes], target: Path) -> None:
    """Writes pictures side by side, with few colours, so that a page with them loads fast."""
    images = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    whole = Image.new("RGB", (sum(image.width for image in images), max(image.height for image in images)))
    for place, image in enumerate(images):
        whole.paste(image, (sum(before.width for before in images[:place]), 0))
    framed = ImageOps.expand(whole, _FRAME_WIDTH, _FRAME)
    with replacing(target) as partial:
        framed.quantize(_COLORS, dither=Image.Dither.NONE).save(partial, "PNG", optimize=True)


def _run(script: str, *words: str, here: Path) -> None:
    """Runs a command in a directory, from which the paths on the pages are seen."""
    if subprocess.run([sys.executable, str(_ROOT / script), *words], cwd=here, check=False).returncode:
        raise UserError(f"{script} {' '.join(words)} failed; what it said is above.")


def _train(*words: str, here: Path) -> Path:
    """Runs train.py in a directory; returns where it wrote last."""
    _run("train.py", *words, here=here)
    return max(here.glob("multirun/*/*" if "-m" in words else "outputs/*/*"))


@entry_point("pictures", directory=Path(__file__).parent)
def main(cfg: DictConfig) -> None:
    from benchmarks.serve import serving
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise UserError(f"The pages are pictured in a browser, and none of {', '.join(_BROWSERS)} is on the path.")
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as driver:
        here = Path(directory)
        network = [f"model={cfg.backbone}", "model.weights=random"]
        if cfg.weights is not None:
            weights = Path(cfg.weights).resolve()
            (here / weights.name).symlink_to(weights)
            network[1] = f"model.weights={weights.name}"
        for name, photos in (("drawn", cfg.drawn), ("photos", cfg.photos)):
            (here / name).symlink_to(Path(photos).resolve())
        # With real weights each of its answers would be certain.
        dogs = _train("data.dir=drawn", network[0], "model.weights=random", here=here)
        run = _train("data.dir=photos", *network, here=here)
        # Of a run its own report has the whole path.
        _run("scripts/report.py", f"run={run.relative_to(here)}", here=here)
        examples, pictures = _train("data.dir=drawn", *network, here=here) / "model/examples", here / "looked"
        _run("scripts/predict.py", f"package={examples.parent}", f"images={examples}", "explain=looked", here=here)
        pairs = [folder / name for file in _LOOKED for folder, name in ((examples, file), (pictures, f"{file}.jpg"))]
        searched = _train(*_SEARCH, "data.dir=photos", *network, here=here)
        with serving(dogs / "model", here / "cache") as port:
            made = Made(
                driver.chromium.launch(executable_path=browser), run, searched, pairs, f"http://127.0.0.1:{port}/"
            )
            for name, pictured in PICTURES.items():
                _save(pictured(made), Path(cfg.out) / name)
                print(Path(cfg.out) / name)


if __name__ == "__main__":
    main()
