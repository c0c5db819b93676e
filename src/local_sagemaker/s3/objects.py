"""The objects of S3, which moto holds: what jobs and endpoints read and write without a request.

Of a job these are its two archives, checkpoints and tensors.
"""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_sagemaker.calls import ACCOUNT, LocalSageMakerError

if TYPE_CHECKING:
    from moto.s3.models import FakeBucket, FakeKey

#: The parts of AWS, each with buckets of its own.
PARTITIONS = ("aws", "aws-cn", "aws-us-gov")
# Held by who has moto's state.
_MOTO = threading.Lock()
# Most of what training makes does not get smaller.
_COMPRESSION = 1


class NoBucketError(Exception):
    """An object was to be put into a bucket that does not exist."""


class Objects:
    """All buckets of all regions.

    Raises:
        LocalSageMakerError: This process has another one open; moto has one state for all.
    """

    def __init__(self) -> None:
        if not _MOTO.acquire(blocking=False):
            raise LocalSageMakerError("Another service is open in this process: close it first.")
        _reset_moto()

    def close(self) -> None:
        _reset_moto()
        _MOTO.release()

    def find(self, uri: str) -> bytes | None:
        bucket, key = split_uri(uri)
        found = self._keys(bucket).get(key)
        return None if found is None else found.value

    def has_bucket(self, bucket: str) -> bool:
        return self._bucket(bucket) is not None

    def under(self, uri: str) -> list[tuple[str, FakeKey]]:
        """Returns key and object of all whose URI begins like this one, by key."""
        bucket, prefix = split_uri(uri)
        return sorted((key, found) for key, found in self._keys(bucket).items() if key.startswith(prefix))

    def put(self, uri: str, content: bytes) -> None:
        """Makes an object; raises NoBucketError where there is no such bucket."""
        from moto.s3.models import s3_backends

        name, key = split_uri(uri)
        bucket = self._bucket(name)
        if bucket is None:
            raise NoBucketError(f"there is no bucket {name}")
        s3_backends[ACCOUNT][bucket.partition].put_object(name, key, content)

    def _keys(self, bucket: str) -> dict[str, FakeKey]:
        from moto.s3.models import FakeKey

        found = self._bucket(bucket)
        keys = {} if found is None else dict(found.keys.items())
        return {name: key for name, key in keys.items() if isinstance(key, FakeKey)}

    def _bucket(self, name: str) -> FakeBucket | None:
        from moto.s3.models import s3_backends

        backends = [s3_backends[ACCOUNT][partition] for partition in PARTITIONS]
        return next((one.buckets[name] for one in backends if name in one.buckets), None)


def split_uri(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _reset_moto() -> None:
    from moto.backends import get_backend

    from local_sagemaker.s3.moto import BACKENDS

    backends_of: Any = get_backend
    for name in BACKENDS.values():
        for regions in backends_of(name).values():
            for backend in regions.values():
                backend.reset()


class MirroredDirectory:
    """A directory whose changed files are copied to S3; removed files stay there, as on AWS.

    What is there when it is `restored` came from S3.
    """

    def __init__(self, directory: Path, uri: str, objects: Objects, *, restored: bool) -> None:
        self._directory, self._uri, self._objects = directory, uri.rstrip("/"), objects
        self._known = {path: _state(path) for path in _files(directory)} if restored else {}

    def update(self) -> None:
        for path in _files(self._directory):
            try:
                state = _state(path)
                if self._known.get(path) == state:
                    continue
                self._objects.put(f"{self._uri}/{path.relative_to(self._directory).as_posix()}", path.read_bytes())
            except FileNotFoundError:
                # The script has renamed or removed it since it was listed.
                continue
            self._known[path] = state


def upload_archive(directories: Sequence[Path], uri: str, objects: Objects, scratch: Path) -> bool:
    """Makes one .tar.gz of what several hosts have made, and an object of it; says whether there was any.

    AWS does not document which of two files of one name it takes; here it is that of the first host.
    """
    members = {path.relative_to(one): path for one in reversed(directories) for path in one.rglob("*")}
    if not members:
        return False
    archive = scratch / uri.rpartition("/")[2]
    with tarfile.open(archive, "w:gz", compresslevel=_COMPRESSION) as tar:
        for name, path in sorted(members.items()):
            tar.add(path, arcname=name, recursive=False)
    objects.put(uri, archive.read_bytes())
    archive.unlink()
    return True


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file())


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
