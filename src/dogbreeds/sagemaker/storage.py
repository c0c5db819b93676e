"""The files of jobs in S3: what goes up is named by its content, so that nothing goes up twice.

Below `s3://<bucket>/<prefix>/` there are

- `photos/<digest>/<relative path>` and, beside it, `photos/<digest>.json`: the *listing*, which has the SHA-256 of
  every photo by its path. `<digest>` is that of the listing, so that a folder never changes once it is there, and a
  job can be run again on what it saw. The listing comes last: where it is, everything is. When some photos of a
  folder are new or different, the others are copied inside S3, from the folders that were there before, and only
  those go up.
- `features/<digest>/...`: files of a feature store, in the same way;
- `code/<digest>/sourcedir.tar.gz` and `files/<digest>/<name>`: single files;
- `jobs/<job>/...`: what jobs make.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from dogbreeds.data.layout import find_photos
from dogbreeds.errors import DataError
from dogbreeds.sagemaker.contents import Content, object_name, read, read_all
from dogbreeds.sagemaker.source_code import ARCHIVE, pack_code
from dogbreeds.sagemaker.transfers import (
    MissingObjectError,
    StorageError,
    Transfers,
    split_uri,
    storage_errors,
    transfers,
)
from dogbreeds.sagemaker.unpacking import unpack

# Earlier folders that are looked through for photos; each listing is some megabytes at most.
_MOST_LISTINGS = 8
#: What a feature store is made of; its index is made anew from them.
FEATURE_FOLDERS = ("segments", "artefacts")


class Storage:
    """A place in S3 for the files of jobs."""

    def __init__(self, client: Any, bucket: str, prefix: str, kms_key: str | None, console: Console) -> None:
        """Takes a place.

        Args:
            client: A boto3 client of S3.
            bucket: The bucket, which must be there.
            prefix: The folder in it.
            kms_key: The key that encrypts what goes up; None leaves it to the bucket.
            console: Where progress is shown.
        """
        self._client, self._bucket, self._prefix, self._console = client, bucket, prefix, console
        self._encryption = {} if kms_key is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}

    def uri(self, *parts: str) -> str:
        """Returns the address of something in this place."""
        return f"s3://{self._bucket}/{self._key(*parts)}"

    def upload_photos(self, root: Path) -> str:
        """Brings breed folders to S3 and returns the folder that has them, by their paths relative to `root`.

        Raises:
            DataError: There are no breed folders, or a photo has changed meanwhile.
            StorageError: S3 does not take them.
        """
        paths = [path for paths in find_photos(root).values() for path in paths]
        return self._upload_folder("photos", root, paths)

    def upload_features(self, store: Path) -> str:
        """Brings the files of a feature store to S3 and returns the folder that has them.

        Raises:
            StorageError: S3 does not take them.
        """
        store = store.expanduser()
        found = [path for folder in FEATURE_FOLDERS for path in sorted((store / folder).glob("*"))]
        return self._upload_folder("features", store, [path for path in found if path.suffix != ".partial"])

    def upload(self, path: Path) -> str:
        """Brings a file, or a directory with all that is in it, to S3 and returns its address there.

        Raises:
            StorageError: S3 does not take it.
        """
        if path.is_dir():
            return self._upload_folder("files", path, [one for one in sorted(path.rglob("*")) if one.is_file()])
        return self._upload_file("files", path)

    def upload_code(self, project: Path, extras: Sequence[str]) -> str:
        """Packs the code of a checkout, brings it to S3 and returns the archive's address there.

        Args:
            project: The checkout.
            extras: Optional dependencies that the job needs.

        Raises:
            UserError: It is no checkout, or S3 does not take it.
        """
        with tempfile.TemporaryDirectory(prefix="dogbreeds-code-") as directory:
            archive = Path(directory) / ARCHIVE
            pack_code(project, archive, extras)
            return self._upload_file("code", archive)

    def download(self, uri: str, path: Path) -> None:
        """Fetches an object; the file is there whole or not at all.

        Raises:
            StorageError: There is no such object, or S3 does not give it.
        """
        with storage_errors(uri):
            bucket, key = split_uri(uri)
            size = self._client.head_object(Bucket=bucket, Key=key)["ContentLength"]
            with self._transfers(f"Fetching {uri}", size) as transfer:
                transfer.download(bucket, key, path, size).result()

    def download_folder(self, uri: str, directory: Path) -> list[Path]:
        """Fetches all that lies in a folder of S3, and returns the files.

        Raises:
            StorageError: An object's name leads outside the directory, or S3 does not give it.
        """
        with storage_errors(uri):
            bucket, key = split_uri(uri.rstrip("/") + "/")
            found = {name: size for name, (size, _) in self._objects(bucket, key).items() if not name.endswith("/")}
            places = {name: _inside(directory, name.removeprefix(key)) for name in found}
            with self._transfers(f"Fetching {len(found):,} files of {uri}", sum(found.values())) as transfer:
                for future in [transfer.download(bucket, name, places[name], size) for name, size in found.items()]:
                    future.result()
        return list(places.values())

    def download_archive(self, uri: str, directory: Path) -> None:
        """Fetches an archive, such as a job's output.tar.gz, and unpacks it into a directory.

        Raises:
            UserError: There is no such object, or it is damaged or not safe to unpack.
        """
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, where there is room: the place for temporary files may be in memory.
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=directory.parent) as scratch:
            archive = Path(scratch) / PurePosixPath(uri).name
            self.download(uri, archive)
            unpack(archive, directory)

    def exists(self, uri: str) -> bool:
        """Tells whether there is such an object.

        Raises:
            StorageError: S3 does not say.
        """
        bucket, key = split_uri(uri)
        try:
            with storage_errors(uri):
                self._client.head_object(Bucket=bucket, Key=key)
        except MissingObjectError:
            return False
        return True

    def _upload_file(self, kind: str, path: Path) -> str:
        file = read(path)
        uri = self.uri(kind, file.digest, path.name)
        if not self.exists(uri):
            bucket, key = split_uri(uri)
            with storage_errors(uri):
                with self._transfers(f"Uploading {path.name}", file.size) as transfer:
                    transfer.upload(path, bucket, key).result()
                self._refuse_changed({key: file})
        return uri

    def _upload_folder(self, kind: str, root: Path, paths: Sequence[Path]) -> str:
        if not paths:
            raise DataError(f"{root} has no files in it that could go to S3.")
        files = {object_name(file.path, root): file for file in read_all(paths)}
        listing = json.dumps({name: file.digest for name, file in sorted(files.items())}, indent=0).encode()
        digest = hashlib.sha256(listing).hexdigest()
        folder, listed = self.uri(kind, digest) + "/", self._key(kind, f"{digest}.json")
        if not self.exists(f"s3://{self._bucket}/{listed}"):
            with storage_errors(folder):
                self._complete(kind, digest, files)
                self._refuse_changed({self._key(kind, digest, name): file for name, file in files.items()})
                self._client.put_object(Bucket=self._bucket, Key=listed, Body=listing, **self._encryption)
        return folder

    def _complete(self, kind: str, digest: str, files: Mapping[str, Content]) -> None:
        """Brings those files of a folder to S3 that an earlier try, which was stopped, did not."""
        folder = self._key(kind, digest) + "/"
        present = self._objects(self._bucket, folder)
        missing = {name: file for name, file in files.items() if folder + name not in present}
        elsewhere = self._elsewhere(kind, {file.digest for file in missing.values()})
        new = sum(1 for file in missing.values() if file.digest not in elsewhere)
        title = f"Uploading {new:,} of {len(files):,} files of {kind}"
        with self._transfers(title, sum(file.size for file in files.values())) as transfer:
            transfer.skip(sum(file.size for file in files.values()) - sum(file.size for file in missing.values()))
            self._transfer(transfer, {folder + name: file for name, file in missing.items()}, elsewhere)

    def _transfer(self, transfer: Transfers, files: Mapping[str, Content], elsewhere: Mapping[str, str]) -> None:
        copies, uploads = [], []
        for key, file in files.items():
            if file.digest in elsewhere:
                copies.append((key, file, transfer.copy(elsewhere[file.digest], self._bucket, key, file.size)))
            else:
                uploads.append(transfer.upload(file.path, self._bucket, key))
        for key, file, copy in copies:
            try:
                with storage_errors(key):
                    copy.result()
            except MissingObjectError:
                # Somebody has removed it since its listing was written.
                uploads.append(transfer.upload(file.path, self._bucket, key))
        for upload in uploads:
            upload.result()

    def _refuse_changed(self, files: Mapping[str, Content]) -> None:
        """Takes back what may not be what its name says."""
        changed = {key: file for key, file in files.items() if file.changed()}
        for key in changed:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        for file in changed.values():
            raise DataError(f"{file.path} has changed while it was uploaded. Run the same command again.")

    def _elsewhere(self, kind: str, wanted: set[str]) -> dict[str, str]:
        """Returns keys of objects with the content that is wanted, by its digest."""
        found: dict[str, str] = {}
        listings = self._objects(self._bucket, self._key(kind) + "/", delimiter="/") if wanted else {}
        latest = sorted((name for name in listings if name.endswith(".json")), key=lambda name: listings[name][1])
        for key in itertools.islice(reversed(latest), _MOST_LISTINGS):
            listing = json.loads(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())
            folder = key.removesuffix(".json")
            lacking = wanted - found.keys()
            found |= {digest: f"{folder}/{name}" for name, digest in listing.items() if digest in lacking}
            if len(found) == len(wanted):
                break
        return found

    def _objects(self, bucket: str, prefix: str, delimiter: str = "") -> dict[str, tuple[int, Any]]:
        """Returns size and time of all objects whose keys begin with something, by their keys."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, Delimiter=delimiter
        )
        return {
            found["Key"]: (found["Size"], found["LastModified"])
            for page in pages
            for found in page.get("Contents", [])
        }

    def _transfers(self, title: str, size: int) -> AbstractContextManager[Transfers]:
        return transfers(self._client, self._encryption, self._console, title, size)

    def _key(self, *parts: str) -> str:
        return "/".join((self._prefix, *parts))


def _inside(directory: Path, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise StorageError(f"{name}: the name of this object leads outside {directory}.")
    return directory / name
