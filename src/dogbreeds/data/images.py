"""From the bytes of a photo to its pixels, upright and RGB; the same code in training and serving."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import PIL
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError

from dogbreeds.data.kinds import IMAGE_FORMATS, is_heif

#: Raised with every change of the pixels that a photo becomes, so that stored features of the old ones are not used.
DECODING = 2

# Longer by shorter side. Where all of a line of pixels is resized, a few kilobytes of PNG become a terabyte.
_MAX_ASPECT_RATIO = 250
_FORMATS = tuple(name for name in IMAGE_FORMATS if name != "HEIF")
_ROWS = 256
# Photos that are read are not warned of, tag by tag; a text of a PNG may be as large as all of them together.
warnings.filterwarnings("ignore", module=r"PIL\.")
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# A JPEG takes about an eighth of the time of another photo, at an eighth of its size.
_JPEG_SHARE, _USUAL_SCANS = 8, 20
# Segments before the scan of a baseline JPEG: the frame, tables, restarts, comments and those of applications.
_SEGMENTS = bytes((0xC0, 0xC1, 0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
_WHITE = (255, 255, 255, 255)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(Exception):
    """Bytes that are not an image of a supported format, or a damaged one; the message says why."""


def decode(content: bytes, enough: int | None = None) -> Image.Image:
    """Decodes a photo to upright 8-bit RGB.

    EXIF orientation is applied, and transparent parts become white, as in a browser.

    Args:
        enough: Length of the shorter side in pixels that is enough. A JPEG of at least twice that is decoded at a
            half, a quarter or an eighth of its size, in a fraction of the time; None decodes all pixels.

    Raises:
        UnreadableImageError: The bytes are not an image, are truncated, or would fill memory.
    """
    with _readable(content):
        image = _opened(content)
        if enough is not None:
            image.draft(None, (enough, enough))
        _check_pixels(image, image.width * image.height)
        image.load()
        return upright(image)


def upright(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as 8-bit RGB, turned as its EXIF orientation says."""
    rgb, turn = _to_rgb(image), _turn(image)
    return rgb if turn is None else rgb.transpose(turn)


def check(content: bytes) -> None:
    """Raises an UnreadableImageError for bytes that do not begin like an image, or end too early.

    Other damage shows when a photo is decoded.
    """
    with _readable(content), _opened(content) as image:
        if not _ends(content, image.format):
            # Some photos lack nothing but the mark of their end.
            image.draft(None, (1, 1))
            image.load()


def _ends(content: bytes, kind: str | None) -> bool:
    """Whether a photo has the mark of its end; what phones append behind it does not matter."""
    if kind == "JPEG":
        # Segments before the scan hold thumbnails with marks of their own.
        return content.find(b"\xff\xd9", _scan(content)) >= 0
    if kind == "PNG":
        return content.rfind(b"IEND") >= 0
    return kind != "WEBP" or int.from_bytes(content[4:8], "little") + 8 <= len(content)


def _scan(content: bytes) -> int:
    """Returns where the segments of a JPEG, each with its length, end: at its scan, if it is baseline."""
    place = 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] in _SEGMENTS:
        place += 2 + int.from_bytes(content[place + 2 : place + 4])
    return place


def formats() -> str:
    """Names the formats that are read on this machine."""
    return ", ".join((*_FORMATS, "HEIC") if _heif_opener() else _FORMATS)


def decoders() -> str:
    """Names what photos are decoded by: another version may read what this one cannot."""
    heif = f", pillow-heif {version('pillow-heif')}" if _heif_opener() else ""
    return f"{PIL.__version__}{heif}"


@cache
def _heif_opener() -> bool:
    """Lets Pillow read HEIC, and says whether it does."""
    if find_spec("pillow_heif") is None:
        return False

    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    return True


def _opened(content: bytes) -> Image.Image:
    if is_heif(content) and not _heif_opener():
        raise UnreadableImageError("a HEIC photo: install what reads them, pip install 'dogbreeds[heic]'")
    if content.startswith(b"\xff\xd8\xff"):
        # Of several photos in a file the first; and Pillow's limit does not know of sizes that are decoded in part.
        image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(content))
    else:
        image = Image.open(io.BytesIO(content), formats=("HEIF",) if is_heif(content) else _FORMATS)
    _check_pixels(image, _work(image, content))
    return image


def _work(image: Image.Image, content: bytes) -> int:
    """Returns how many pixels of other formats take the time and memory of a photo that may be decoded in part."""
    pixels = image.width * image.height
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return pixels
    place = _scan(content)
    baseline = content[place : place + 2] == b"\xff\xda" and content[place + 4 : place + 5] == bytes([image.layers])
    # One of several scans is kept whole in memory, as up to eight bytes of each pixel, and each scan passes over it.
    return pixels // _JPEG_SHARE if baseline else pixels * max(1, content.count(b"\xff\xda") // _USUAL_SCANS) // 2


def _check_pixels(image: Image.Image, pixels: int) -> None:
    """Refuses what would fill memory, as it is or resized; Pillow only warns up to twice its limit."""
    most = Image.MAX_IMAGE_PIXELS
    if max(image.size) > _MAX_ASPECT_RATIO * min(image.size) or (most is not None and pixels > most):
        raise Image.DecompressionBombError


@contextmanager
def _readable(content: bytes) -> Iterator[None]:
    if not content:
        raise UnreadableImageError("the file is empty")
    try:
        yield
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        most = f"{Image.MAX_IMAGE_PIXELS or math.inf:,} (limits.pixels of a server), of a baseline JPEG {_JPEG_SHARE}"
        reason = f"too many pixels: more than {most} times as many, or sides of more than 1 : {_MAX_ASPECT_RATIO}"
        raise UnreadableImageError(f"{reason}; make it smaller") from error
    except UnidentifiedImageError as error:
        reason = "a kind of TIFF that is not read" if content[:4] in (b"II*\0", b"MM\0*") else "not an image"
        raise UnreadableImageError(reason) from error
    except MemoryError:
        # Says nothing about the photo.
        raise
    except Exception as error:
        # Pillow's decoders raise almost anything on damaged files, sometimes without a message.
        raise UnreadableImageError(" ".join(str(error).split()) or type(error).__name__) from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what applies the EXIF orientation; Pillow's own function rewrites all tags and fails on odd ones."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        # The pixels of a photo with damaged EXIF data are fine.
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _from_wide(image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, _WHITE)
        # Pillow converts La to LA alone.
        opaque.alpha_composite(image.convert(image.mode.upper()).convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """Scales 16-bit, 32-bit and float grayscale to 8 bits; Pillow's own conversion would clip at 255."""
    values = np.asarray(image)
    largest = float(values.max(initial=0, where=np.isfinite(values)))
    if image.mode == "I" and (largest > 65535 or values.min(initial=0) < 0):
        raise UnreadableImageError("grayscale of more than 16 bits")
    # A TIFF may have twelve bits, and may be a negative.
    tags = getattr(image, "tag_v2", {})
    wide = 4095.0 if tags.get(ExifTags.Base.BitsPerSample) == (12,) else 65535.0
    full_scale = 1.0 if largest <= 1.0 and image.mode == "F" else 255.0 if largest <= 255 else wide
    scaled = np.empty(values.shape, np.uint8)
    # A few rows at a time: all of it in float64 would be eight times as large as the result.
    for start in range(0, len(values), _ROWS):
        rows = np.nan_to_num(values[start : start + _ROWS].astype(np.float64))
        if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
            rows = full_scale - rows
        scaled[start : start + _ROWS] = np.clip(rows / full_scale * 255.0, 0, 255)
    return Image.fromarray(scaled).convert("RGB")


def pixels_of(content: bytes) -> int:
    """Returns the number of pixels in a photo's header, of a JPEG a part; 0 if it cannot be read."""
    try:
        with _opened(content) as image:
            return _work(image, content)
    except Exception:
        # Decoding will say what is wrong.
        return 0
