from __future__ import annotations

import hashlib
import io
import re
import shutil
import socket
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from dogbreeds.data.archives import BadArchiveError, Source, Summary, check_archive
from dogbreeds.data.download import CHUNK_BYTES, Connection, choose_source, download, get_dataset
from dogbreeds.errors import UserError

CONFIG = Path(__file__).parents[2] / "conf" / "get_data.yaml"
CONNECTION = Connection(connect_timeout=2, read_timeout=2, retries=2, backoff=0.01)
BODY = bytes(range(256)) * (4 * CHUNK_BYTES // 256) + b"the end"


@dataclass
class Site:
    """What the test server serves and how it misbehaves."""

    body: bytes = BODY
    validators: dict[str, str] | None = None
    ranges: bool = True
    honours_if_range: bool = True
    closes_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def current_validators(self) -> dict[str, str]:
        if self.validators is not None:
            return self.validators
        return {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.requests.append(dict(self.headers.items()))
        if site.statuses:
            self.answer(site.statuses.pop(0), b"", {})
            return
        start = self.requested_start()
        size = len(site.body)
        if start is None:
            self.answer(200, site.body, site.current_validators())
        elif start >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
        else:
            span = {"Content-Range": f"bytes {start}-{size - 1}/{size}"}
            self.answer(206, site.body[start:], site.current_validators() | span)

    def requested_start(self) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        is_same = condition is None or condition in self.site.current_validators().values()
        if match is None or not self.site.ranges or (self.site.honours_if_range and not is_same):
            return None
        return int(match[1])

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        limit = self.site.closes_after.pop(0) if content and self.site.closes_after else len(content)
        # Counted first: the client may be done before the next line of this thread.
        self.site.sent += len(content[:limit])
        self.wfile.write(content[:limit])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Site()
    handler = type("SiteHandler", (Handler,), {"site": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/archive"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join(timeout=2)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=40)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def as_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def as_tar(files: dict[str, bytes], mode: str = "w:gz", links: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return buffer.getvalue()


def tar_link(kind: bytes, name: str, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def zip_link(name: str, to: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("dogImages/train/001.A/a.jpg", b"photo")
        member = zipfile.ZipInfo(name)
        member.external_attr = 0o120777 << 16
        archive.writestr(member, to)
    return buffer.getvalue()


DOG_IMAGES = {
    "dogImages/train/001.Affenpinscher/Affenpinscher_00001.jpg": b"one",
    "dogImages/train/002.Afghan_hound/Afghan_hound_00081.jpg": b"two",
    "dogImages/valid/001.Affenpinscher/Affenpinscher_00038.jpg": b"three",
    "dogImages/test/002.Afghan_hound/Afghan_hound_00116.jpg": b"four",
    "dogImages/.DS_Store": b"junk",
    "dogImages/train/001.Affenpinscher/._Affenpinscher_00001.jpg": b"junk",
    "__MACOSX/dogImages/train/001.Affenpinscher/._Affenpinscher_00001.jpg": b"junk",
}


def source(name: str, url: str) -> Source:
    """The real row of conf/get_data.yaml with the address of the test server."""
    table = OmegaConf.to_container(OmegaConf.load(CONFIG).datasets)
    assert isinstance(table, dict)
    return choose_source(name, {name: {**table[name], "url": url}})


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".dogbreeds.json"
    }


def everything_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_dog_breeds(site: Site, tmp_path: Path, console: Console) -> None:
    site.body = as_zip(DOG_IMAGES)
    target = tmp_path / "data" / "dog_breeds"
    summary = get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert summary == Summary(breeds=2, images=4)
    assert tree(target) == {
        "test/002.Afghan_hound/Afghan_hound_00116.jpg": b"four",
        "train/001.Affenpinscher/Affenpinscher_00001.jpg": b"one",
        "train/002.Afghan_hound/Afghan_hound_00081.jpg": b"two",
        "valid/001.Affenpinscher/Affenpinscher_00038.jpg": b"three",
    }
    assert {path.name for path in target.parent.iterdir()} == {"dog_breeds"}
    assert "100 %" in printed(console)


def test_stanford_dogs_get_numbers(site: Site, tmp_path: Path, console: Console) -> None:
    site.body = as_tar(
        {
            "Images/n02085620-Chihuahua/n02085620_7.jpg": b"c",
            "Images/n02110627-affenpinscher/n02110627_1.jpg": b"a",
            "Images/n02089078-black-and-tan_coonhound/n02089078_3.jpg": b"b",
        },
        mode="w",
    )
    target = tmp_path / "stanford_dogs"
    get_dataset(source("stanford_dogs", site.url), target, CONNECTION, True, console)
    assert tree(target) == {
        "001.Affenpinscher/n02110627_1.jpg": b"a",
        "002.Black-and-tan_coonhound/n02089078_3.jpg": b"b",
        "003.Chihuahua/n02085620_7.jpg": b"c",
    }
    assert (tmp_path / "images.tar").read_bytes() == site.body


def test_imagewoof_synsets_become_breeds(site: Site, tmp_path: Path, console: Console) -> None:
    synsets = [
        "n02086240", "n02087394", "n02088364", "n02089973", "n02093754",
        "n02096294", "n02099601", "n02105641", "n02111889", "n02115641",
    ]  # fmt: skip
    files = {f"imagewoof2-320/train/{synset}/{synset}_1.JPEG": synset.encode() for synset in synsets}
    files["imagewoof2-320/val/n02093754/n02093754_2.JPEG"] = b"held out"
    site.body = as_tar(files)
    target = tmp_path / "imagewoof"
    summary = get_dataset(source("imagewoof", site.url), target, CONNECTION, False, console)
    assert summary == Summary(breeds=10, images=11)
    assert sorted(path.name for path in (target / "train").iterdir()) == [
        "001.Australian_terrier",
        "002.Beagle",
        "003.Border_terrier",
        "004.Dingo",
        "005.English_foxhound",
        "006.Golden_retriever",
        "007.Old_English_sheepdog",
        "008.Rhodesian_ridgeback",
        "009.Samoyed",
        "010.Shih-Tzu",
    ]
    assert (target / "train/004.Dingo/n02115641_1.JPEG").read_bytes() == b"n02115641"
    assert (target / "val/003.Border_terrier/n02093754_2.JPEG").read_bytes() == b"held out"


def test_unknown_dataset_lists_the_known() -> None:
    table: Any = OmegaConf.to_container(OmegaConf.load(CONFIG).datasets)
    with pytest.raises(UserError, match="dog_breeds, stanford_dogs, imagewoof"):
        choose_source("cats", table)


def test_goes_on_within_a_run(site: Site, tmp_path: Path, console: Console) -> None:
    site.closes_after = [2 * CHUNK_BYTES]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert "Range" not in site.requests[0]
    assert site.requests[1]["Range"] == f"bytes={2 * CHUNK_BYTES}-"
    assert site.requests[1]["If-Range"] == site.current_validators()["ETag"]
    assert (len(site.requests), site.sent) == (2, len(BODY))
    assert everything_in(tmp_path) == {"file"}
    assert [line for line in printed(console).splitlines() if "%" in line][-1].startswith("file: 100 % of")


def test_goes_on_in_the_next_run_by_date(site: Site, tmp_path: Path, console: Console) -> None:
    site.validators = {"ETag": 'W/"weak"', "Last-Modified": "Tue, 01 Feb 2022 00:00:00 GMT"}
    site.closes_after = [CHUNK_BYTES]
    once = Connection(connect_timeout=2, read_timeout=2, retries=0, backoff=0)
    with pytest.raises(UserError, match=r"failed at attempt 1: (.|\n)*same command again"):
        download(site.url, tmp_path / "file", once, console)
    assert not (tmp_path / "file").exists()
    download(site.url, tmp_path / "file", once, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.requests[1]["If-Range"] == site.validators["Last-Modified"]
    assert site.sent == len(BODY)


def test_server_without_ranges_restarts(site: Site, tmp_path: Path, console: Console) -> None:
    site.ranges = False
    site.closes_after = [2 * CHUNK_BYTES]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.sent == 2 * CHUNK_BYTES + len(BODY)


def test_server_without_validators_restarts(site: Site, tmp_path: Path, console: Console) -> None:
    site.validators = {}
    site.closes_after = [2 * CHUNK_BYTES]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert "Range" not in site.requests[1]


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("new_size", [len(BODY), CHUNK_BYTES])
def test_changed_file_restarts(
    site: Site, tmp_path: Path, console: Console, honours_if_range: bool, new_size: int
) -> None:
    site.closes_after = [2 * CHUNK_BYTES]
    site.honours_if_range = honours_if_range
    once = Connection(connect_timeout=2, read_timeout=2, retries=0, backoff=0)
    with pytest.raises(UserError):
        download(site.url, tmp_path / "file", once, console)
    site.body = BODY[::-1][:new_size]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == site.body


def test_part_of_another_address_is_not_continued(site: Site, tmp_path: Path, console: Console) -> None:
    etag = site.current_validators()["ETag"]
    for address, is_continued in (("http://elsewhere/file", False), (site.url, True)):
        (tmp_path / "file.part").write_bytes(BODY[:100])
        (tmp_path / "file.part.origin").write_text(f"{address}\n{etag}")
        download(site.url, tmp_path / "file", CONNECTION, console)
        assert (tmp_path / "file").read_bytes() == BODY
        assert ("Range" in site.requests[-1]) == is_continued


def test_complete_part_needs_no_bytes(site: Site, tmp_path: Path, console: Console) -> None:
    once = Connection(connect_timeout=2, read_timeout=2, retries=0, backoff=0)
    site.closes_after = [3 * CHUNK_BYTES]
    with pytest.raises(UserError):
        download(site.url, tmp_path / "file", once, console)
    (tmp_path / "file.part").write_bytes(BODY)
    download(site.url, tmp_path / "file", once, console)
    assert (tmp_path / "file").read_bytes() == BODY
    assert site.sent == 3 * CHUNK_BYTES


def test_answers_that_stay_truncated_end(site: Site, tmp_path: Path, console: Console) -> None:
    site.ranges = False
    site.closes_after = [len(BODY) - 1] * 10
    with pytest.raises(UserError, match="failed at attempt 3: "):
        download(site.url, tmp_path / "file", CONNECTION, console)
    assert len(site.requests) == 3
    assert not (tmp_path / "file").exists()


def test_busy_server_is_asked_again(site: Site, tmp_path: Path, console: Console) -> None:
    site.statuses = [503, 429]
    download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file").read_bytes() == BODY


def test_missing_file_is_final(site: Site, tmp_path: Path, console: Console) -> None:
    site.statuses = [404]
    target = tmp_path / "dog_breeds"
    with pytest.raises(UserError, match=r"404(.|\n)*conf/get_data\.yaml") as caught:
        get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert site.url in str(caught.value)
    assert len(site.requests) == 1
    assert everything_in(tmp_path) == set()


def test_no_connection(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UserError, match=f"Cannot reach {re.escape(address)}: no connection"):
            download(f"http://{address}/x.zip", tmp_path / "x.zip", CONNECTION, console)
    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x.zip", "x.zip"])
def test_other_addresses_are_refused(url: str, tmp_path: Path, console: Console) -> None:
    with pytest.raises(UserError, match="only http and https"):
        download(url, tmp_path / "x.zip", CONNECTION, console)


DAMAGED_ZIP = as_zip({"dogImages/train/001.A/a.jpg": b"a photo of a dog"}).replace(b"a photo", b"a ph0to")
WHOLE_TGZ = as_tar({"dogImages/train/001.A/a.jpg": bytes(range(256)) * 400})
BAD_ARCHIVES = {
    "web page": (b"<html>please log in</html>", "is not a whole zip or tar archive"),
    "checksum": (DAMAGED_ZIP, "damaged.*a.jpg"),
    "cut zip": (as_zip(DOG_IMAGES)[:-30], "is not a whole zip or tar archive"),
    "cut tgz": (WHOLE_TGZ[:-20], "damaged"),
    "gzip checksum": (WHOLE_TGZ[:-8] + b"\0\0\0\0" + WHOLE_TGZ[-4:], "damaged"),
    "other folder": (as_zip({"cats/train/001.Tom/a.jpg": b"cat"}), "not the expected archive"),
    "no images": (as_zip({"dogImages/readme.txt": b"soon"}), "not the expected archive.*no images"),
    "zip parent": (as_zip(DOG_IMAGES | {"dogImages/../../evil.jpg": b"!"}), "'dogImages/../../evil.jpg'"),
    "zip absolute": (as_zip(DOG_IMAGES | {"/tmp/evil.jpg": b"!"}), "'/tmp/evil.jpg'"),
    "zip drive": (as_zip(DOG_IMAGES | {"C:\\evil.jpg": b"!"}), "evil.jpg"),
    "zip link": (zip_link("dogImages/evil", "/etc"), "'dogImages/evil' is a link"),
    "tar parent": (as_tar(DOG_IMAGES | {"../evil.jpg": b"!"}), "'../evil.jpg' leads outside"),
    "tar absolute": (as_tar(DOG_IMAGES | {"/tmp/evil.jpg": b"!"}), "'/tmp/evil.jpg' leads outside"),
    "tar link": (
        as_tar(DOG_IMAGES, links=(tar_link(tarfile.SYMTYPE, "dogImages/evil", ".."),)),
        "'dogImages/evil' is a link",
    ),
    "tar hard link": (
        as_tar(DOG_IMAGES, links=(tar_link(tarfile.LNKTYPE, "dogImages/evil", "../../secret"),)),
        "dogImages/evil.*outside",
    ),
    "tar device": (
        as_tar(DOG_IMAGES, links=(tar_link(tarfile.CHRTYPE, "dogImages/evil", ""),)),
        "dogImages/evil.*special file",
    ),
}


@pytest.mark.parametrize(("body", "reason"), BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_bad_archive_is_deleted_and_nothing_unpacked(
    body: bytes, reason: str, site: Site, tmp_path: Path, console: Console
) -> None:
    site.body = body
    target = tmp_path / "deep" / "data" / "dog_breeds"
    with pytest.raises(UserError, match=rf"dogImages\.zip .*{reason}.*It was deleted") as caught:
        get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert "Run the same command again" in str(caught.value)
    assert everything_in(tmp_path) == {"deep", "deep/data"}
    assert not Path("/tmp/evil.jpg").exists()


def test_renaming_needs_breed_folders(site: Site, tmp_path: Path, console: Console) -> None:
    site.body = as_tar({"Images/cats/a.jpg": b"cat"})
    with pytest.raises(UserError, match="no breed folders"):
        get_dataset(source("stanford_dogs", site.url), tmp_path / "dogs", CONNECTION, False, console)
    assert everything_in(tmp_path) == set()


def test_check_counts_only_the_wanted_folder(tmp_path: Path) -> None:
    files = {"Images/a.jpg": b"12345", "Images/.DS_Store": b"1", "other/b.jpg": b"123"}
    for content in (as_zip(files), as_tar(files)):
        (tmp_path / "archive").write_bytes(content)
        assert check_archive(tmp_path / "archive", "Images") == 5
        with pytest.raises(BadArchiveError):
            check_archive(tmp_path / "archive", "Image")


def test_checksums_are_read_before_unpacking(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(DAMAGED_ZIP)
    with pytest.raises(BadArchiveError, match=r"checksum of its member .*a\.jpg"):
        check_archive(tmp_path / "archive", "dogImages")


def test_complete_target_asks_nobody(site: Site, tmp_path: Path, console: Console) -> None:
    site.body = as_zip(DOG_IMAGES)
    target = tmp_path / "dog_breeds"
    first = get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert len(site.requests) == 1
    assert get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console) == first
    assert len(site.requests) == 1
    assert "nothing to do" in printed(console)


def delete_a_photo(target: Path) -> None:
    (target / "train/001.Affenpinscher/Affenpinscher_00001.jpg").unlink()


def forget_the_marker(target: Path) -> None:
    (target / ".dogbreeds.json").unlink()


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("dog_breeds", delete_a_photo, "only 3 of its 4 images"),
        ("dog_breeds", forget_the_marker, "was not made by this command"),
        ("imagewoof", lambda target: None, "already holds the dataset dog_breeds"),
    ],
)
def test_other_target_is_refused_and_left_alone(
    name: str, change: Callable[[Path], None], reason: str, site: Site, tmp_path: Path, console: Console
) -> None:
    site.body = as_zip(DOG_IMAGES)
    target = tmp_path / "dogs"
    get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    change(target)
    before = everything_in(tmp_path)
    with pytest.raises(UserError, match=rf"{reason}(.|\n)*dir=FOLDER"):
        get_dataset(source(name, site.url), target, CONNECTION, False, console)
    assert everything_in(tmp_path) == before
    assert len(site.requests) == 1


def test_target_that_is_a_file_is_refused(site: Site, tmp_path: Path, console: Console) -> None:
    (tmp_path / "dogs").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        get_dataset(source("dog_breeds", site.url), tmp_path / "dogs", CONNECTION, False, console)
    assert site.requests == []


def test_empty_target_is_filled(site: Site, tmp_path: Path, console: Console) -> None:
    site.body = as_zip(DOG_IMAGES)
    target = tmp_path / "dogs"
    target.mkdir()
    assert get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console).images == 4


def test_interrupted_unpacking_leaves_no_target(
    site: Site, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.body = as_zip(DOG_IMAGES)
    target = tmp_path / "dogs"
    unpacked: list[bool] = []

    def interrupted(self: zipfile.ZipFile, path: Path, members: list[str]) -> None:
        self.extract(members[0], path)
        unpacked.append((path / members[0]).is_file())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert unpacked == [True]
    assert everything_in(tmp_path) == {"dogImages.zip"}

    # A killed run could not clean up: what it left must not end up in the result.
    stray = tmp_path / ".dogs.unpacking" / "dogImages" / "train" / "009.Half" / "half.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"ha")
    get_dataset(source("dog_breeds", site.url), target, CONNECTION, False, console)
    assert len(site.requests) == 1
    assert len(tree(target)) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"dogs"}


def test_full_disk_is_said_before_the_download(
    site: Site, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 2 * len(BODY) - 1))
    with pytest.raises(UserError, match=rf"Not enough disk space in {re.escape(str(tmp_path))}"):
        download(site.url, tmp_path / "file", CONNECTION, console)
    assert (tmp_path / "file.part").read_bytes() == b""


def test_unwritable_place(site: Site, tmp_path: Path, console: Console) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"Cannot write .*/file: (.|\n)*dir=FOLDER"):
        get_dataset(source("dog_breeds", site.url), tmp_path / "file" / "dogs", CONNECTION, False, console)


def test_terminal_gets_a_bar(site: Site, tmp_path: Path) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    download(site.url, tmp_path / "file", CONNECTION, terminal)
    assert "━" in printed(terminal)
    assert "% of" not in printed(terminal)
