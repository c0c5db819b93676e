"""Photos of every format become upright 8-bit RGB, and other files are refused with a reason."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torchvision.models import SqueezeNet1_1_Weights
from torchvision.transforms import InterpolationMode, v2

from dogbreeds.data.images import UnreadableImageError, check, decode, upright
from dogbreeds.data.transform import Transform, read_all

Pixels = NDArray[np.uint8]

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def quadrants() -> Pixels:
    """48 x 32 pixels with four colours, so that each of the eight orientations looks different."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24], pixels[16:, 24:] = RED, GREEN, BLUE, WHITE
    return pixels


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def at(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return tuple(int(value) for value in pixel)


def corner(image: Image.Image) -> tuple[int, ...]:
    return at(image, 2, 2)


def exif(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """A little-endian EXIF block of (tag, type, count, four bytes of value), valid or not."""
    directory = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)


ROTATED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 12),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("GIF", {}, 0),
        ("GIF", {"save_all": True, "append_images": [Image.new("RGB", (48, 32))]}, 0),
        ("WEBP", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (48, 32))]}, 0),
        ("MPO", {"quality": 95, "subsampling": 0, "save_all": True, "append_images": [Image.new("RGB", (9, 9))]}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0, "icc_profile": bytes(2_000_000)}, 12),
        ("TIFF", {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]}, 0),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {322: 16, 323: 16}}, 0),
        ("TIFF", {"compression": "tiff_lzw", "big_tiff": True}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 12),
    ],
)
def test_file_formats(kind: str, options: dict[str, Any], tolerance: int) -> None:
    image = decode(encode(Image.fromarray(quadrants()), kind, **options))
    assert (image.mode, image.size) == ("RGB", (48, 32))
    difference = np.asarray(image).astype(int) - quadrants().astype(int)
    assert np.abs(difference).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = quadrants()
    turned = upright.transpose(1, 0, 2)
    # What a camera stores, from the table in the EXIF standard: where the first row and column belong.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }[orientation]
    tags = Image.Exif()
    tags[0x0112] = orientation
    image = decode(encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=tags, quality=95))
    assert image.size == (48, 32)
    # Away from the edges of the quadrants, where lossy formats blur.
    middles = np.ix_([8, 24], [12, 36])
    difference = np.asarray(image)[middles].astype(int) - upright[middles].astype(int)
    assert np.abs(difference).max() <= 12


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "odd",
    [
        # XResolution as text, ResolutionUnit as text, a text that would end far behind the end of the file.
        (0x011A, 2, 4, b"abc\0"),
        (0x0128, 2, 4, b"abc\0"),
        (0x0132, 2, 1 << 30, b"\xff\xff\xff\x7f"),
    ],
)
def test_orientation_beside_an_odd_exif_tag(odd: tuple[int, int, int, bytes]) -> None:
    stored = np.ascontiguousarray(quadrants().transpose(1, 0, 2)[::-1])
    image = decode(encode(Image.fromarray(stored), "JPEG", quality=95, exif=exif([ROTATED, odd])))
    assert image.size == (48, 32)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0no tags in here", exif([ROTATED])[:14]])
def test_photo_with_broken_exif_is_still_a_photo(block: bytes, kind: str) -> None:
    assert decode(encode(Image.fromarray(quadrants()), kind, exif=block)).size == (48, 32)


def test_orientation_that_does_not_exist_is_ignored() -> None:
    tag = (0x0112, 3, 1, struct.pack("<HH", 9, 0))
    assert decode(encode(Image.fromarray(quadrants()), "JPEG", exif=exif([tag]))).size == (48, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grayscale(kind: str) -> None:
    image = decode(encode(Image.new("L", (32, 32), 100), kind))
    assert (image.mode, corner(image)) == ("RGB", (100, 100, 100))


def test_grayscale_with_alpha() -> None:
    picture = Image.new("LA", (32, 32), (100, 255))
    picture.paste((100, 0), (0, 0, 16, 32))
    for image in (decode(encode(picture)), upright(picture.convert("La"))):
        assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, (100, 100, 100))


def test_grayscale_with_a_transparent_value() -> None:
    picture = Image.new("L", (32, 32), 100)
    picture.paste(7, (0, 0, 16, 32))
    image = decode(encode(picture, transparency=7))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, (100, 100, 100))


def palette_picture() -> Image.Image:
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([*RED, *BLUE, *GREEN])
    picture.paste(0, (0, 0, 16, 32))
    return picture


def test_palette() -> None:
    image = decode(encode(palette_picture()))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", RED, BLUE)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff\xff"])
def test_palette_with_transparency(transparency: int | bytes) -> None:
    image = decode(encode(palette_picture(), transparency=transparency))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, BLUE)


def test_one_bit() -> None:
    picture = Image.new("1", (32, 32), 0)
    picture.paste(1, (0, 0, 16, 32))
    image = decode(encode(picture))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, (0, 0, 0))


def test_cmyk_jpeg() -> None:
    image = decode(encode(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95))
    assert image.mode == "RGB"
    assert np.abs(np.subtract(corner(image), RED)).max() <= 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparent_parts_become_white(kind: str) -> None:
    picture = Image.new("RGBA", (32, 32), (*BLUE, 255))
    picture.paste((*RED, 0), (0, 0, 16, 16))
    picture.paste((*RED, 128), (0, 16, 16, 32))
    image = decode(encode(picture, kind, lossless=True))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, BLUE)
    assert np.abs(np.subtract(at(image, 2, 30), (255, 127, 127))).max() <= 1


def test_rgb_with_a_transparent_colour() -> None:
    picture = Image.new("RGB", (32, 32), BLUE)
    picture.paste(RED, (0, 0, 16, 32))
    image = decode(encode(picture, transparency=RED))
    assert (image.mode, corner(image), at(image, 30, 30)) == ("RGB", WHITE, BLUE)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    values = np.repeat(np.array([[0, 1000, 32768, 65535]], np.uint16), 32, axis=0)
    image = decode(encode(Image.fromarray(np.repeat(values, 8, axis=1))))
    assert (image.mode, image.size) == ("RGB", (32, 32))
    black, dark, middle, white = (at(image, x, 5) for x in (2, 10, 18, 26))
    assert (black, white) == ((0, 0, 0), WHITE)
    assert np.abs(np.subtract(middle, 128)).max() <= 1
    assert np.abs(np.subtract(dark, 4)).max() <= 1


def tiff(values: NDArray[Any], photometric: int, order: str = "<", bits: int = 16) -> bytes:
    """A grayscale TIFF whose values are not packed; `photometric` 0 is a negative."""
    height, width = values.shape
    form = 3 if values.dtype.kind == "f" else 1
    entries = ((256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 134), (277, 1))
    entries += ((278, height), (279, values.nbytes), (339, form))
    packed = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    head = start + struct.pack(f"{order}IH", 8, len(entries)) + packed + bytes(4)
    return head + values.astype(values.dtype.newbyteorder(order)).tobytes()


def test_grayscale_tiffs_with_more_than_eight_bits() -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    wide = (ramp * 65535).astype(np.uint16)
    holes = np.where(ramp > 0.9, np.nan, ramp).astype(np.float32)
    for content in (tiff(wide, 1), tiff(wide, 1, ">"), tiff(65535 - wide, 0), tiff(ramp, 1, bits=32)):
        assert np.abs(np.asarray(decode(content))[..., 0] - ramp * 255).max() <= 1
    found = np.asarray(decode(tiff(holes, 1, bits=32)))[..., 0]
    assert np.abs(found - np.nan_to_num(holes) * 255).max() <= 1
    with pytest.raises(UnreadableImageError, match="more than 16 bits"):
        decode(tiff((ramp * 4e9).astype(np.uint32), 1, bits=32))
    with pytest.raises(UnreadableImageError, match="a kind of TIFF that is not read"):
        decode(tiff(ramp.astype(np.float64), 1, bits=64))


def test_texts_of_a_png_may_be_large() -> None:
    for place in (b"IDAT", b"IEND"):
        for kind, start in ((b"zTXt", b"Comment\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
            content, chunk = encode(noise(48, 48)), kind + start + zlib.compress(bytes(3_000_000))
            before = content.rindex(place) - 4
            packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
            assert decode(content[:before] + packed + content[before:]).size == (48, 48)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_file(kind: str) -> None:
    content = encode(noise(48, 48), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableImageError, match=r"."):
            decode(content[: int(share * len(content))])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "AVIF", "TIFF"])
def test_damage_is_never_another_exception(kind: str) -> None:
    generator = np.random.default_rng(0)
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    odd = exif([ROTATED, (0x011A, 2, 4, b"abc\0")])
    content = encode(noise(32, 32), kind, **({"exif": odd} if kind in ("JPEG", "WEBP") else {}))
    refused = 0
    for _ in range(100):
        damaged = bytearray(content)
        for position in generator.integers(4, min(300, len(content)), 3):
            damaged[position] = generator.integers(256)
        try:
            assert decode(bytes(damaged)).mode == "RGB"
        except UnreadableImageError as error:
            assert str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize("read", [decode, check])
def test_error_without_a_message_gets_one(monkeypatch: pytest.MonkeyPatch, read: Callable[[bytes], object]) -> None:
    def fail(file: object, formats: object) -> None:
        raise EOFError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnreadableImageError, match="EOFError"):
        read(b"anything")


@pytest.mark.parametrize("size", [(1, 251), (501, 2), (1, 1_000_000)])
def test_lines_of_pixels_are_refused(size: tuple[int, int]) -> None:
    """Their shorter side would be brought to hundreds of pixels."""
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    with pytest.raises(UnreadableImageError, match="too many pixels"):
        decode(file.getvalue())
    file = io.BytesIO()
    Image.new("L", (250, 1)).save(file, "PNG")
    assert decode(file.getvalue()).size == (250, 1)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [40, 64])
def test_decompression_bomb(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    # Pillow warns above the limit and raises above twice the limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32)
    with pytest.raises(UnreadableImageError, match="too many pixels"):
        decode(encode(Image.new("RGB", (side, side))))
    assert decode(encode(Image.new("RGB", (32, 32)))).size == (32, 32)


def test_no_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(encode(Image.new("RGB", (32, 32)))).size == (32, 32)


def test_threads_do_not_change_the_warning_filters() -> None:
    contents = [encode(noise(48, 48, seed)) for seed in range(4)] * 250
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode, contents))
    assert list(warnings.filters) == before


# --- a part of the pixels


def soft(width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """A JPEG without edges, which looks the same at any size."""
    return encode(noise(8, 6).resize((width, height), Image.Resampling.BICUBIC).convert(mode), "JPEG", **options)


@pytest.mark.parametrize(
    ("size", "enough", "decoded"),
    [
        ((1000, 800), 100, (125, 100)),
        ((1000, 800), 101, (250, 200)),
        ((1000, 800), 400, (500, 400)),
        ((1000, 800), 401, (1000, 800)),
        ((1000, 800), 5000, (1000, 800)),
        ((800, 1000), 200, (200, 250)),
        ((1003, 803), 200, (251, 201)),
        ((4000, 300), 150, (2000, 150)),
        ((1000, 800), None, (1000, 800)),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_smaller_size(
    size: tuple[int, int], enough: int | None, decoded: tuple[int, int]
) -> None:
    assert decode(soft(*size), enough).size == decoded


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_part_of_the_pixels_shows_the_same_photo(mode: str) -> None:
    content = soft(900, 700, mode, quality=95)
    whole, part = decode(content), decode(content, 150)
    assert (part.mode, part.size) == ("RGB", (225, 175))
    small = whole.resize(part.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(small).astype(int) - np.asarray(part)).mean() < 1


@pytest.mark.parametrize("read", [lambda content: decode(content, 20), check], ids=["decode", "check"])
def test_the_limit_is_of_the_pixels_that_are_decoded(
    read: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phones make JPEGs of 200 megapixels; those of several scans take their memory whatever is decoded of them."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    read(soft(400, 200))
    read(soft(200, 100, progressive=True))
    read(encode(noise(100, 100)))
    scans = soft(100, 100, progressive=True)
    scans = scans[:-2] + scans[scans.rindex(b"\xff\xda") : -2] * 60 + scans[-2:]
    sizes = soft(400, 202), soft(200, 102, progressive=True), encode(noise(100, 101)), encode(noise(200, 200))
    for content in (*sizes, scans):
        with pytest.raises(UnreadableImageError, match=r"more than 10,000 .*limits.pixels.*make it smaller"):
            read(content)
    with pytest.raises(UnreadableImageError, match="too many pixels"):
        decode(soft(400, 200), 100)


def test_a_part_of_the_pixels_is_upright() -> None:
    stored = Image.fromarray(np.ascontiguousarray(quadrants().transpose(1, 0, 2)[::-1])).resize((640, 960))
    image = decode(encode(stored, "JPEG", quality=95, exif=exif([ROTATED])), 80)
    assert image.size == (120, 80)
    for (x, y), colour in {(30, 20): RED, (90, 20): GREEN, (30, 60): BLUE, (90, 60): WHITE}.items():
        assert np.abs(np.subtract(at(image, x, y), colour)).max() <= 12


def test_a_truncated_jpeg_is_refused_whatever_is_enough() -> None:
    content = soft(1000, 800)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(content[: len(content) // 2], 100)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    assert decode(encode(noise(400, 300), kind), 20).size == (400, 300)


# --- the beginning of a file


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_that_is_cut_short(kind: str) -> None:
    content = encode(noise(200, 200), kind)
    check(content)
    # Phones append films, and some cameras zeros.
    check(content + b"\0" * 1000)
    for cut in (150, len(content) // 2):
        for read in (check, decode):
            with pytest.raises(UnreadableImageError):
                read(content[:-cut])


def test_the_end_of_a_thumbnail_is_not_the_end_of_a_photo() -> None:
    inner = encode(noise(16, 16), "JPEG")
    content = encode(noise(200, 200), "JPEG", comment=inner)
    assert inner in content
    check(content)
    with pytest.raises(UnreadableImageError, match="truncated"):
        check(content[:-150])


def test_other_damage_shows_when_a_photo_is_decoded() -> None:
    content = encode(noise(200, 200), "PNG")
    damaged = content[: len(content) // 2] + content[len(content) // 2 + 50 :]
    check(damaged)
    with pytest.raises(UnreadableImageError):
        decode(damaged)


def test_heic() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(noise(64, 48)).save(file)
    assert decode(file.getvalue()).size == (64, 48)
    check(file.getvalue())


def test_heic_without_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dogbreeds.data.images._heif_opener", lambda: False)
    with pytest.raises(UnreadableImageError, match=r"HEIC photo: .*pip install 'dogbreeds\[heic\]'"):
        check(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404 not found</html>", "not an image"),
        (encode(noise(48, 48))[:20], "."),
        (encode(noise(48, 48), "JPEG")[:10], "."),
    ],
)
def test_files_that_are_not_photos(content: bytes, reason: str) -> None:
    for read in (check, decode):
        with pytest.raises(UnreadableImageError, match=reason):
            read(content)


def test_headers_leave_no_file_open() -> None:
    contents = [encode(noise(48, 48, seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP", "BMP"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for content in contents * 20:
            check(content)


# --- to a tensor


@pytest.fixture(scope="module")
def preset() -> Any:
    return SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()


@pytest.fixture(scope="module")
def transform(preset: Any) -> Transform:
    return Transform(
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (3, 700), (700, 3), (64, 48), (45, 60), (256, 257), (257, 256), (301, 503), (640, 400)]
)
def test_only_the_crop_is_resized_to_what_torchvision_leaves(
    transform: Transform, size: tuple[int, int], name: str
) -> None:
    image = noise(*size)
    pixels = replace(transform, interpolation=name)(image)
    assert (pixels.dtype, pixels.shape, pixels.is_contiguous()) == (torch.uint8, (3, 224, 224), True)
    whole = v2.functional.resize(image, [256], InterpolationMode(name), antialias=True)
    expected = v2.functional.pil_to_tensor(v2.functional.center_crop(whole, [224, 224]))
    difference = (pixels.int() - expected.int()).abs()
    # Pillow resizes rows first, or columns, and rounds in between; cubic filters also clip there. Noise that is half a
    # pixel beside its place would differ by more.
    assert int(difference.max()) <= (1 if name == "bilinear" else 32)
    assert float(difference.float().mean()) < 0.5


def test_normalised_it_is_what_the_preset_of_the_weights_gives(transform: Transform, preset: Any) -> None:
    image = noise(301, 503)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.mean, transform.std))
    found = (transform(image) / 255 - mean) / std
    torch.testing.assert_close(found, preset(image), atol=1.01 / 255 / min(transform.std), rtol=0)


def test_reading_a_photo_gives_the_pixels_that_transforming_all_of_it_does(transform: Transform) -> None:
    for size in ((640, 480), (2000, 1600), (300, 4000)):
        content = soft(*size, quality=95)
        pixels = transform.read(content)
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 224, 224))
        difference = (pixels.int() - transform(decode(content)).int()).abs().float()
        assert float(difference.mean()) < 1
    # Nothing is left out of photos that are small, or no JPEG.
    for content in (soft(600, 500), encode(noise(1200, 1100))):
        assert torch.equal(transform.read(content), transform(decode(content)))


def test_photos_and_errors_keep_their_places(transform: Transform) -> None:
    contents = [encode(noise(48, 48)), b"", encode(noise(30, 90), "JPEG"), b"no photo", encode(noise(48, 48))[:200]]
    read = read_all(contents, transform)
    assert [isinstance(image, torch.Tensor) for image in read] == [True, False, True, False, False]
    for content, image in zip(contents, read, strict=True):
        if isinstance(image, torch.Tensor):
            assert torch.equal(image, transform(decode(content)))
        else:
            with pytest.raises(UnreadableImageError, match=str(image)):
                decode(content)
    assert read_all([], transform) == []


def test_interpolation_is_used() -> None:
    image = noise(64, 64)
    results = [
        Transform(resize=40, crop=32, interpolation=name, mean=(0.5,) * 3, std=(0.5,) * 3)(image)
        for name in ("bilinear", "bicubic")
    ]
    assert not torch.equal(*results)


def test_transform_survives_json(transform: Transform) -> None:
    again = Transform.from_json(json.loads(json.dumps(asdict(transform))))
    assert again == transform
    # The cache key is made of the text.
    assert repr(again) == repr(transform)


def test_other_formats_of_pillow_are_refused() -> None:
    for kind in ("PPM", "ICO"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        with pytest.raises(UnreadableImageError, match="not an image"):
            decode(file.getvalue())


@pytest.mark.parametrize(
    ("side", "share", "expected"),
    [
        (None, None, (232, 224)),
        (448, None, (464, 448)),
        (None, 0.875, (256, 224)),
        (288, 1.0, (288, 288)),
        (260, 0.89, (292, 260)),
    ],
)
def test_another_resolution_and_another_share(side: int | None, share: float | None, expected: tuple[int, int]) -> None:
    own = Transform(resize=232, crop=224, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    found = own.at(side, share)
    assert (found.resize, found.crop) == expected
    # It is part of the key of stored features.
    assert (str(found) == str(own)) == (side is None and share is None)


@pytest.mark.parametrize("name", ["nearest", "box", "hamming", "lanczos"])
def test_other_filters(name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    found = Transform(40, 32, name, (0.5,) * 3, (0.5,) * 3)(Image.fromarray(pixels))
    assert found.shape == (3, 32, 32)
