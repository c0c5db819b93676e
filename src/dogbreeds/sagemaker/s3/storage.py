"""The files of jobs in S3: uploads are named by their content, so that nothing is uploaded twice.

Below `s3://<bucket>/<prefix>/`:

- `photos/<digest>/<relative path>` and `photos/<digest>.json`: the *listing*, the SHA-256 of every photo by its path.
  `<digest>` is that of the listing, so a folder never changes and a job can be repeated on the same photos. The
  listing is written last: where it exists, the folder is complete. Photos that other folders already have are copied
  inside S3.
- `features/<digest>/...`: files of a feature store, in the same way;
- `code/<digest>/sourcedir.tar.gz` and `files/<digest>/<name>`: single files;
- `checkpoints/<job>/...`: from which a job on Spot instances resumes;
- `async/<endpoint>/...`: photos for an asynchronous endpoint, and its answers;
- `jobs/<job>/...`: the outputs of jobs.
"""

import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Console

from dogbreeds.data.archives import unpack
from dogbreeds.data.labels import find
from dogbreeds.data.names import readable
from dogbreeds.errors import DataError, UserError
from dogbreeds.sagemaker.aws_errors import MissingError, aws_errors, code_of
from dogbreeds.sagemaker.s3 import transfers
from dogbreeds.sagemaker.s3.code_archive import ARCHIVE, pack_code
from dogbreeds.sagemaker.s3.transfers import FileDigest, Stored, Transfers, split_uri, stored_under

# Earlier folders that are searched for known photos; each listing has a few megabytes at most.
_MAX_LISTINGS = 8
#: Folders of what is needed only while a job or an endpoint runs; `aws action=setup` lets it expire.
SCRATCH = ("code", "checkpoints", "async")
#: Folders of what this machine has uploaded, and could upload again.
UPLOADS = ("photos", "features", "files", "prepared")
# Of a feature store, whose index is rebuilt from them.
_SEGMENTS = "segments/*.features"


class Storage:
    """A folder of a bucket for the files of jobs. Every method raises a UserError where S3 refuses the request.

    `connect` returns the client of S3, at each use another one where credentials are renewed. `kms_key` encrypts
    uploads; None leaves it to the bucket.
    """

    def __init__(
        self, connect: Callable[[], Any], bucket: str, prefix: str, kms_key: str | None, console: Console
    ) -> None:
        self._connect, self._bucket, self._prefix, self._console = connect, bucket, prefix, console
        self._encryption = transfers.encryption(kms_key)

    @property
    def _client(self) -> Any:
        return self._connect()

    def uri(self, *parts: str) -> str:
        return f"s3://{self._bucket}/{self._key(*parts)}"

    def upload_photos(self, root: Path, labels: Path | None = None) -> str:
        return self._upload_folder("photos", root, find(root, labels).photos())

    def upload_features(self, store: Path) -> str:
        """Uploads the features of a feature store, and returns the URI of the folder that holds them.

        Raises:
            DataError: There are none, or another process was adding to them.
        """
        store = store.expanduser()
        return self._upload_folder("features", store, sorted(store.glob(_SEGMENTS)))

    def upload(self, path: Path) -> str:
        """Uploads a file, or a directory with its content, and returns its URI."""
        if path.is_dir():
            return self._upload_folder("files", path, [one for one in sorted(path.rglob("*")) if one.is_file()])
        return self._upload_file("files", path)

    def upload_code(self, project: Path, extras: Sequence[str]) -> str:
        """Packs and uploads the code of a checkout with what some extras need, and returns the archive's URI."""
        with tempfile.TemporaryDirectory(prefix="dogbreeds-code-") as directory:
            archive = Path(directory) / ARCHIVE
            pack_code(project, archive, extras)
            return self._upload_file("code", archive, is_new=True)

    def download(self, uri: str, path: Path) -> None:
        """Downloads an object; the file appears complete or not at all."""
        with aws_errors(f"read {uri}"):
            bucket, key = split_uri(uri)
            found = self._stored(bucket, key)
            with self._transfers(f"Fetching {uri}", found.size) as transfer:
                transfer.download(bucket, found, path).result()

    def download_folder(self, uri: str, directory: Path) -> list[Path]:
        with aws_errors(f"read {uri}"):
            bucket, key = split_uri(uri.rstrip("/") + "/")
            objects = stored_under(self._client, bucket, key)
            found = {name: one for name, one in objects.items() if not name.endswith("/")}
            places = {name: _inside(directory, name.removeprefix(key)) for name in found}
            size = sum(one.size for one in found.values())
            with self._transfers(f"Fetching {len(found):,} files of {uri}", size) as transfer:
                for future in [transfer.download(bucket, one, places[name]) for name, one in found.items()]:
                    future.result()
        return list(places.values())

    def download_archive(self, uri: str, directory: Path) -> None:
        """Downloads an archive, such as a job's output.tar.gz, and unpacks it into a directory."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, where there is room: /tmp may be in memory.
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=directory.parent) as scratch:
            archive = Path(scratch) / PurePosixPath(uri).name
            self.download(uri, archive)
            unpack(archive, directory)

    def read_json(self, uri: str) -> dict[str, Any]:
        bucket, key = split_uri(uri)
        with aws_errors(f"read {uri}"):
            return dict(json.loads(self._client.get_object(Bucket=bucket, Key=key)["Body"].read()))

    def write_json(self, uri: str, content: Mapping[str, Any]) -> None:
        bucket, key = split_uri(uri)
        with aws_errors(f"write {uri}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=json.dumps(content).encode(), **self._encryption)

    def exists(self, uri: str) -> bool:
        return self._find(uri) is not None

    def _find(self, uri: str) -> Stored | None:
        with suppress(MissingError), aws_errors(f"read {uri}"):
            return self._stored(*split_uri(uri))
        return None

    def _stored(self, bucket: str, key: str) -> Stored:
        head = self._client.head_object(Bucket=bucket, Key=key)
        return Stored(key, head["ContentLength"], head["ETag"], head["LastModified"])

    def _upload_file(self, kind: str, path: Path, *, is_new: bool = False) -> str:
        file = transfers.digest_of(path)
        uri = self.uri(kind, file.digest, path.name)
        # Scratch is written anew, so that it does not expire before the job ends.
        if is_new or not _is_whole(self._find(uri), file):
            bucket, key = split_uri(uri)
            shown = self._transfers(f"Uploading {path.name}", file.size)
            with aws_errors(f"upload {path} to {uri}"), _refuse_changed(path), shown as transfer:
                transfer.upload(file, bucket, key).result()
        return uri

    def _upload_folder(self, kind: str, root: Path, paths: Sequence[Path]) -> str:
        if not paths:
            raise DataError(f"{root} has no files to upload.")
        files = {readable(file.path.relative_to(root)): file for file in transfers.digests_of(paths)}
        listing = json.dumps({name: file.digest for name, file in sorted(files.items())}, indent=0).encode()
        digest = hashlib.sha256(listing).hexdigest()
        folder, listed = self.uri(kind, digest) + "/", self._key(kind, f"{digest}.json")
        if not self.exists(f"s3://{self._bucket}/{listed}"):
            with aws_errors(f"upload {root} to {folder}"):
                self._complete(kind, digest, files)
                self._client.put_object(Bucket=self._bucket, Key=listed, Body=listing, **self._encryption)
        return folder

    def _complete(self, kind: str, digest: str, files: Mapping[str, FileDigest]) -> None:
        """Uploads the files of a folder that are not in S3 yet."""
        folder = self._key(kind, digest) + "/"
        present = stored_under(self._client, self._bucket, folder)
        keys = {folder + name: file for name, file in files.items()}
        missing = {key: file for key, file in keys.items() if not _is_whole(present.get(key), file)}
        elsewhere = self._elsewhere(kind, {file.digest: file for file in missing.values()})
        new = sum(1 for file in missing.values() if file.digest not in elsewhere)
        title = f"Uploading {new:,} of {len(files):,} files of {kind}"
        total, lacking = (sum(file.size for file in some.values()) for some in (files, missing))
        with self._transfers(title, total) as transfer:
            transfer.skip(total - lacking)
            begun = {
                file.path: transfer.copy(elsewhere[file.digest], self._bucket, key)
                if file.digest in elsewhere
                else transfer.upload(file, self._bucket, key)
                for key, file in missing.items()
            }
            for path, future in begun.items():
                with _refuse_changed(path):
                    future.result()

    def _elsewhere(self, kind: str, wanted: Mapping[str, FileDigest]) -> dict[str, Stored]:
        """Returns objects of earlier folders that have wanted content, by its digest."""
        found: dict[str, Stored] = {}
        folders = stored_under(self._client, self._bucket, self._key(kind) + "/", "/") if wanted else {}
        listings = sorted((one for one in folders.values() if one.key.endswith(".json")), key=lambda one: one.written)
        for listing in itertools.islice(reversed(listings), _MAX_LISTINGS):
            lacking = wanted.keys() - found.keys()
            if not lacking:
                break
            body = self._client.get_object(Bucket=self._bucket, Key=listing.key)["Body"]
            folder = listing.key.removesuffix(".json") + "/"
            digests = {folder + name: digest for name, digest in json.loads(body.read()).items() if digest in lacking}
            # Some may have been removed or replaced.
            there = stored_under(self._client, self._bucket, folder) if digests else {}
            whole = {digest: key for key, digest in digests.items() if _is_whole(there.get(key), wanted[digest])}
            found |= {digest: there[key] for digest, key in whole.items()}
        return found

    def _transfers(self, title: str, size: int) -> AbstractContextManager[Transfers]:
        return transfers.running(self._client, self._encryption, self._console, title, size)

    def _key(self, *parts: str) -> str:
        return "/".join((self._prefix, *parts))


def _is_whole(stored: Stored | None, file: FileDigest) -> bool:
    """Says whether an object named by the digest of a file can be that file."""
    return stored is not None and stored.size == file.size


@contextmanager
def _refuse_changed(path: Path) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if code_of(error) != "BadDigest":
            raise
        raise DataError(f"{path} changed during the upload. Run the same command again.") from error


def _inside(directory: Path, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise UserError(f"{name}: the name of this object leads outside {directory}.")
    return directory / name
