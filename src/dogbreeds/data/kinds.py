"""Which files are photos: how their names end, and what they begin with."""

from pathlib import Path

#: The formats that are read, by Pillow's names, and how their files' names end. Pillow knows many more, some of which
#: start other programs or are rarely maintained.
IMAGE_FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
EXTENSIONS = tuple(extension for extensions in IMAGE_FORMATS.values() for extension in extensions)
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BRANDS = (*_HEIF_BRANDS, b"avif", b"avis")


def is_heif(start: bytes) -> bool:
    """Whether a file begins like HEIC, the photos of iPhones; AVIF, which begins alike, names itself too."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and b"avif" not in start[:64]


def may_be_photo(path: Path) -> bool:
    """Whether a file is called like a photo or begins like one."""
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return (
        start.startswith(_STARTS)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[:2] == b"BM" and start[6:10] == b"\0\0\0\0")
        or (start[4:8] == b"ftyp" and start[8:12] in _BRANDS)
    )
