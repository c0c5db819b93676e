"""Copies files of a job to S3: its two archives, checkpoints, tensors."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_sagemaker.s3.objects import Objects

# Most of what training makes does not get smaller.
_COMPRESSION = 1


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
