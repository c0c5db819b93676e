"""Files to and from S3, against an S3 in this process."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from packaging.requirements import Requirement
from rich.console import Console

from dogbreeds.data.archives import unpack
from dogbreeds.errors import DataError, UserError
from dogbreeds.files import pack
from dogbreeds.sagemaker.s3.code_archive import code_members, pack_code, requirements
from dogbreeds.sagemaker.s3.storage import Storage
from dogbreeds.sagemaker.s3.transfers import split_uri
from local_sagemaker import Faults, LocalSageMaker
from local_sagemaker.training.instance import unsatisfied
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

Requests = list[tuple[str, str]]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        made = boto3.client("s3", region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}))
        made.create_bucket(Bucket="bucket")
        yield made
        made.close()


@pytest.fixture
def requests(client: Any) -> Requests:
    """What is asked of S3, by operation and key."""
    asked: Requests = []

    def seen(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append((model.name, params.get("Key", "")))

    client.meta.events.register("provide-client-params.s3", seen)
    return asked


@pytest.fixture
def storage(client: Any) -> Storage:
    return Storage(lambda: client, "bucket", "dogs", None, Console(file=io.StringIO()))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for split in ("train", "valid", "test"):
        for breed in ("001.Affenpinscher", "002.Löwchen & Co"):
            folder = root / split / breed
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.jpg").write_bytes(f"{split} {breed} {number}".encode())
    (root / "sample.json").write_text("no photo")
    return root


def keys(client: Any, uri: str) -> dict[str, bytes]:
    bucket, prefix = split_uri(uri)
    found = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        one["Key"].removeprefix(prefix): client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
        for one in found
    }


def on_disk(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.jpg")}


def done(requests: Requests) -> dict[str, int]:
    """How often each operation that writes was asked for; and no more is asked from here on."""
    counted = {
        name: sum(operation == name and not key.endswith(".json") for operation, key in requests)
        for name in ("PutObject", "CopyObject")
    }
    requests.clear()
    return counted


def test_photos_lie_below_a_folder_that_their_content_names(client: Any, storage: Storage, photos: Path) -> None:
    uri = storage.upload_photos(photos)
    assert uri.startswith("s3://bucket/dogs/photos/")
    assert uri.endswith("/")
    assert keys(client, uri) == on_disk(photos)
    moved = photos.rename(photos.with_name("moved"))
    assert storage.upload_photos(moved) == uri
    (moved / "train" / "001.Affenpinscher" / "0.jpg").rename(moved / "train" / "001.Affenpinscher" / "9.jpg")
    assert storage.upload_photos(moved) != uri


def test_of_a_table_the_photos_that_it_names_are_uploaded(storage: Storage, client: Any, photos: Path) -> None:
    labels = photos / "labels.csv"
    labels.write_text("file,breed\ntest/001.Affenpinscher/0,a\ntrain/001.Affenpinscher/1.jpg,b\n")
    found = keys(client, storage.upload_photos(photos, labels))
    assert set(found) == {"test/001.Affenpinscher/0.jpg", "train/001.Affenpinscher/1.jpg"}


def test_nothing_goes_up_twice(storage: Storage, photos: Path, requests: Requests) -> None:
    storage.upload_photos(photos)
    assert done(requests) == {"PutObject": 18, "CopyObject": 0}
    storage.upload_photos(photos)
    assert len(requests) == 1
    assert done(requests) == {"PutObject": 0, "CopyObject": 0}


def test_of_a_changed_folder_only_what_is_new_goes_up(
    client: Any, storage: Storage, photos: Path, requests: Requests
) -> None:
    before = storage.upload_photos(photos)
    kept = keys(client, before)
    client.put_object(Bucket="bucket", Key="dogs/photos/note.txt", Body=b"not ours")
    done(requests)
    breed = photos / "train" / "001.Affenpinscher"
    (breed / "0.jpg").write_bytes(b"changed")
    (breed / "1.jpg").unlink()
    (breed / "2.jpg").rename(breed / "renamed.jpg")
    (breed / "new.jpg").write_bytes(b"new")
    after = storage.upload_photos(photos)
    assert done(requests) == {"PutObject": 2, "CopyObject": 16}
    assert keys(client, after) == on_disk(photos)
    assert keys(client, before) == kept


def test_an_upload_that_broke_off_goes_on(client: Any, storage: Storage, photos: Path, requests: Requests) -> None:
    def break_off(params: dict[str, Any], **_: Any) -> None:
        if "/valid/" in params["Key"]:
            raise EndpointConnectionError(endpoint_url="s3")

    client.meta.events.register("provide-client-params.s3.PutObject", break_off)
    with pytest.raises(UserError, match=r"^Cannot upload .* \(Could not connect"):
        storage.upload_photos(photos)
    client.meta.events.unregister("provide-client-params.s3.PutObject", break_off)
    present = client.list_objects_v2(Bucket="bucket", Prefix="dogs/photos/").get("Contents", [])
    assert not any(one["Key"].endswith(".json") for one in present)
    done(requests)
    uri = storage.upload_photos(photos)
    assert done(requests) == {"PutObject": 18 - len(present), "CopyObject": 0}
    assert keys(client, uri) == on_disk(photos)


def test_photos_that_somebody_removed_from_s3_go_up_again(client: Any, storage: Storage, photos: Path) -> None:
    before = storage.upload_photos(photos)
    _, prefix = split_uri(before)
    client.delete_object(Bucket="bucket", Key=f"{prefix}train/001.Affenpinscher/1.jpg")
    (photos / "train" / "001.Affenpinscher" / "0.jpg").write_bytes(b"changed")
    assert keys(client, storage.upload_photos(photos)) == on_disk(photos)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSageMaker]:
    """An S3 that checks what moto does not; it has a bucket of somebody else, `theirs`."""
    with LocalSageMaker(tmp_path / "service", Faults(foreign_buckets=("theirs",))) as service:
        for bucket in ("bucket", "theirs"):
            service.client("s3").create_bucket(Bucket=bucket)
        yield service


@pytest.mark.parametrize("content", [b"the size is not the same either, but larger", b"."], ids=["longer", "as long"])
def test_s3_refuses_what_changes_meanwhile(local: LocalSageMaker, photos: Path, content: bytes) -> None:
    client = local.client("s3")
    changing = photos / "train" / "001.Affenpinscher" / "1.jpg"

    def change(params: dict[str, Any], **_: Any) -> None:
        if params["Key"].endswith("/train/001.Affenpinscher/1.jpg"):
            changing.write_bytes(content.ljust(changing.stat().st_size))

    client.meta.events.register("provide-client-params.s3.PutObject", change)
    storage = Storage(lambda: client, "bucket", "dogs", None, Console(file=io.StringIO()))
    with pytest.raises(DataError, match=r"1\.jpg changed during the upload\. Run the same command again"):
        storage.upload_photos(photos)
    left = [one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="dogs/photos/")["Contents"]]
    assert not any(key.endswith((".json", "/train/001.Affenpinscher/1.jpg")) for key in left)


def test_an_object_of_another_size_is_not_trusted(client: Any, storage: Storage, photos: Path) -> None:
    uri = storage.upload_photos(photos)
    bucket, prefix = split_uri(uri)
    damaged = f"{prefix}train/001.Affenpinscher/1.jpg"
    client.put_object(Bucket=bucket, Key=damaged, Body=b"half")
    client.delete_object(Bucket=bucket, Key=f"{prefix.removesuffix('/')}.json")
    assert storage.upload_photos(photos) == uri
    assert keys(client, uri) == on_disk(photos)
    # Nor is it copied to another folder.
    client.put_object(Bucket=bucket, Key=damaged, Body=b"half")
    (photos / "train" / "001.Affenpinscher" / "0.jpg").write_bytes(b"changed")
    assert keys(client, storage.upload_photos(photos)) == on_disk(photos)
    file = storage.upload(photos / "sample.json")
    client.put_object(Bucket=bucket, Key=split_uri(file)[1], Body=b"half")
    assert storage.upload(photos / "sample.json") == file
    assert keys(client, file)[""] == b"no photo"


def test_names_that_are_not_utf_8_go_up_as_text(client: Any, storage: Storage, photos: Path) -> None:
    odd = photos / "train" / "001.Affenpinscher" / os.fsdecode(b"\xff.jpg")
    try:
        odd.write_bytes(b"photo")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    storage.upload_photos(photos)
    keys = [one["Key"] for one in client.list_objects_v2(Bucket="bucket", Prefix="dogs/photos/")["Contents"]]
    assert any(key.endswith(r"/train/001.Affenpinscher/\xff.jpg") for key in keys)


def test_features(client: Any, storage: Storage, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("segments/a.features", "artefacts/network.xml", "artefacts/half.partial", "owners/1", "index.sqlite"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(name.encode())
    uri = storage.upload_features(store)
    assert uri.startswith("s3://bucket/dogs/features/")
    assert set(keys(client, uri)) == {"segments/a.features"}
    with pytest.raises(DataError, match="has no files to upload"):
        storage.upload_features(tmp_path / "empty")


def test_single_files_and_directories(client: Any, storage: Storage, tmp_path: Path, requests: Requests) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(os.urandom(9_000_000))
    uri = storage.upload(weights)
    assert uri.startswith("s3://bucket/dogs/files/")
    assert uri.endswith("/weights.pth")
    assert keys(client, uri)[""] == weights.read_bytes()
    # At once, so that S3 checks all of it.
    assert ("PutObject", split_uri(uri)[1]) in requests
    requests.clear()
    assert storage.upload(weights) == uri
    assert [operation for operation, _ in requests] == ["HeadObject"]
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "in" / "a.txt").write_text("a")
    assert keys(client, storage.upload(tmp_path / "folder")) == {"in/a.txt": b"a"}


def test_encryption(client: Any, photos: Path, tmp_path: Path, requests: Requests) -> None:
    storage = Storage(lambda: client, "bucket", "dogs", "key-1", Console(file=io.StringIO()))
    storage.upload_photos(photos)
    (photos / "train" / "001.Affenpinscher" / "0.jpg").write_bytes(b"changed")
    storage.upload_photos(photos)
    assert done(requests)["CopyObject"] == 17
    large = tmp_path / "large"
    large.write_bytes(bytes(9_000_000))
    storage.upload(large)
    objects = client.list_objects_v2(Bucket="bucket")["Contents"]
    assert len(objects) == 18 + 18 + 2 + 1
    for one in objects:
        head = client.head_object(Bucket="bucket", Key=one["Key"])
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "key-1"), one["Key"]


def test_what_jobs_made_comes_back(client: Any, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "run" / "tensorboard").mkdir(parents=True)
    (tmp_path / "run" / "tensorboard" / "events").write_bytes(b"1")
    pack(tmp_path / "output.tar.gz", {"a/b.txt": b"text", "c.json": b"{}"}, level=6)
    uri = storage.uri("jobs", "job", "output", "output.tar.gz")
    client.upload_file(str(tmp_path / "output.tar.gz"), *split_uri(uri))
    storage.download_archive(uri, tmp_path / "run")
    assert {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*")} == {
        "a/b.txt",
        "c.json",
    }
    assert (tmp_path / "run" / "tensorboard" / "events").is_file()
    assert storage.exists(uri)
    assert not storage.exists(f"{uri}.gz")
    with pytest.raises(UserError, match=r"^Cannot read s3://.*model\.tar\.gz"):
        storage.download_archive(storage.uri("jobs", "job", "output", "model.tar.gz"), tmp_path / "run")


def test_folders_come_back(client: Any, storage: Storage, photos: Path, tmp_path: Path) -> None:
    uri = storage.upload_photos(photos)
    client.put_object(Bucket="bucket", Key=split_uri(uri)[1] + "empty/", Body=b"")
    assert len(storage.download_folder(uri, tmp_path / "back")) == 18
    assert on_disk(tmp_path / "back") == on_disk(photos)
    client.put_object(Bucket="bucket", Key="dogs/bad/../../evil", Body=b"x")
    with pytest.raises(UserError, match="leads outside"):
        storage.download_folder("s3://bucket/dogs/bad", tmp_path / "bad")
    assert not (tmp_path / "evil").exists()


def test_what_s3_says(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    lost = Storage(lambda: client, "nowhere", "dogs", None, Console(file=io.StringIO()))
    with pytest.raises(UserError, match=r"^Cannot read s3://nowhere/.*does not exist.*sagemaker\.bucket="):
        lost.download_folder("s3://nowhere/folder", tmp_path)
    unreachable = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:9",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with pytest.raises(UserError, match=r"^Cannot read .* \(Could not connect"):
        Storage(lambda: unreachable, "bucket", "dogs", None, Console(file=io.StringIO())).upload(file)
    unreachable.close()
    for address in ("bucket/key", "s3://bucket", "https://bucket/key"):
        with pytest.raises(UserError, match="is not an S3 URI"):
            split_uri(address)


def test_progress_is_a_bar_on_a_terminal_and_a_line_elsewhere(client: Any, photos: Path) -> None:
    shown = {}
    for terminal in (True, False):
        file = io.StringIO()
        console = Console(file=file, force_terminal=terminal, width=120)
        Storage(lambda: client, "bucket", f"dogs{terminal}", None, console).upload_photos(photos)
        shown[terminal] = file.getvalue()
    assert shown[False].splitlines() == ["Uploading 18 of 18 files of photos: 444 bytes"]
    assert "━" in shown[True]


def test_the_code_archive(client: Any, storage: Storage, tmp_path: Path) -> None:
    uri = storage.upload_code(ROOT, ())
    assert uri.endswith("/sourcedir.tar.gz")
    assert storage.upload_code(ROOT, ()) == uri
    storage.download_archive(uri, tmp_path / "code")
    files = {path.relative_to(tmp_path / "code").as_posix() for path in (tmp_path / "code").rglob("*")}
    assert {
        "train.py",
        "requirements.txt",
        "conf/train.yaml",
        "src/dogbreeds/training/run.py",
        "src/dogbreeds/report/templates/page.html",
        "src/hydra_plugins/dogbreeds_sweepers/__init__.py",
    } <= files
    assert not any("__pycache__" in name or ".egg-info" in name for name in files)
    # With a setup.py or a pyproject.toml the toolkit would install it.
    assert not {"setup.py", "pyproject.toml"} & files


def test_the_code_archive_is_the_same_wherever_it_is_packed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for folder in ("src", "conf"):
            shutil.copytree(ROOT / folder, tmp_path / name / folder)
        for file in ("train.py", "pyproject.toml"):
            shutil.copyfile(ROOT / file, tmp_path / name / file)
        # What Python, pip and editors leave behind is no code.
        for left in (f"src/__pycache__/{name}.pyc", f"src/dogbreeds.egg-info/{name}", f"conf/.{name}.swp"):
            (tmp_path / name / left).parent.mkdir(exist_ok=True)
            (tmp_path / name / left).write_text(name)
        pack_code(tmp_path / name, tmp_path / f"{name}.tar.gz", ())
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    (tmp_path / "two" / "conf" / "train.yaml").unlink()
    pack_code(tmp_path / "two", tmp_path / "two.tar.gz", ())
    assert (tmp_path / "one.tar.gz").read_bytes() != (tmp_path / "two.tar.gz").read_bytes()
    # Where there is no checkout, what is installed is packed, under the same paths.
    installed, checkout = code_members(tmp_path / "three", ()), code_members(ROOT, ())
    assert set(installed) | {"train.py"} == {name for name in checkout if not name.startswith("src/local_")}


@pytest.mark.parametrize("project", [ROOT, Path("nowhere")], ids=["checkout", "installed"])
def test_requirements(project: Path) -> None:
    def names(extras: tuple[str, ...]) -> set[str]:
        return {Requirement(text).name for text in requirements(project, extras)}

    base = names(())
    assert {"pytorch-lightning", "hydra-core", "openvino", "safetensors"} <= base
    assert not {"torch", "torchvision", "boto3", "sagemaker", "pytest"} & base
    assert names(("search", "smdebug")) - base >= {"optuna", "smdebug"}


def test_jobs_install_what_was_tested(tmp_path: Path) -> None:
    def pinned(project: Path) -> dict[str, str]:
        found = map(Requirement, requirements(project, ("timm", "smdebug")))
        return {one.name: str(one.specifier) for one in found}

    here = pinned(Path("nowhere"))
    for name in ("pytorch-lightning", "torchmetrics", "hydra-core", "openvino", "timm"):
        assert here[name] == f"=={metadata.version(name)}"
    # The image's own are left alone, and a pin never contradicts the project.
    assert (here["pillow"], here["protobuf"]) == (">=11.3", "<=3.20.3")
    assert not list(unsatisfied("\n".join(requirements(ROOT, ("timm",)))))
    for file in ("train.py", "pyproject.toml"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    assert pinned(tmp_path) == here
    (tmp_path / "constraints.txt").write_text("# Tested.\npytorch-lightning==2.6.0\ntorchmetrics==0.1\n")
    checkout = pinned(tmp_path)
    assert checkout["pytorch-lightning"] == "==2.6.0"
    assert checkout["torchmetrics"] == ">=1.8" and checkout["timm"] == ">=1.0.20"


Write = Callable[[tarfile.TarFile], None]


def _link(kind: bytes, target: str) -> Write:
    def write(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, target
        tar.addfile(member)

    return write


def _named(name: str) -> Write:
    def write(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))

    return write


@pytest.mark.parametrize(
    "write",
    [
        _named("../evil"),
        _named("/evil"),
        _named("a/../../evil"),
        _named("C:\\evil"),
        _link(tarfile.SYMTYPE, "good.txt"),
        _link(tarfile.SYMTYPE, "/etc/passwd"),
        _link(tarfile.LNKTYPE, "good.txt"),
        _link(tarfile.CHRTYPE, ""),
        _link(tarfile.FIFOTYPE, ""),
    ],
)
def test_nothing_of_an_archive_that_is_not_safe_is_unpacked(tmp_path: Path, write: Write) -> None:
    archive = tmp_path / "bad.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        good = tarfile.TarInfo("good.txt")
        tar.addfile(good, io.BytesIO())
        write(tar)
    with pytest.raises(UserError, match="is not safe to unpack"):
        unpack(archive, tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz"]


def test_nothing_of_a_damaged_archive_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "output.tar.gz"
    pack(archive, {"a": random.Random(0).randbytes(100_000), "b": b"b"}, level=1)
    whole = archive.read_bytes()
    flipped = whole[:50_000] + bytes([whole[50_000] ^ 1]) + whole[50_001:]
    for damaged in (whole[:-8], whole[:5000], flipped, b"no archive"):
        archive.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or cannot be read"):
            unpack(archive, tmp_path / "there")
        assert not (tmp_path / "there").exists()


def test_hard_links_and_links_are_packed_as_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    pack(tmp_path / "packed.tar.gz", {name: tmp_path / name for name in "abc"}, level=0)
    unpack(tmp_path / "packed.tar.gz", tmp_path / "there")
    assert {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == dict.fromkeys("abc", b"same")
