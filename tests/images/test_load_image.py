"""Reading pictures: every mode and orientation against the pixels that were saved."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from wholepose.errors import ImageError
from wholepose.images import ImageLimits, check_image, load_image, read_header


def drawn_picture(height: int = 48, width: int = 70) -> NDArray[np.uint8]:
    """A smooth colour picture without symmetry, (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 255 * x / (width - 1), 255 * y / (height - 1)
    blue = 127 + 127 * np.sin(x / 9 + y / 5)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


PICTURE = drawn_picture()
COLOUR = Image.fromarray(PICTURE)
GREY = np.asarray(COLOUR.convert("L"))
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)
ALPHA = ((np.arange(PICTURE.shape[0])[:, None] * 5 + np.arange(PICTURE.shape[1]) * 3) % 256).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def on_white(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = ALPHA[..., None] / 255
    return colours * share + 255 * (1 - share)


def difference(image: NDArray[np.uint8], expected: NDArray[np.generic]) -> float:
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    return float(np.abs(image.astype(float) - expected).max())


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM", "WEBP"])
def test_lossless_formats_give_the_pixels_back(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    assert difference(load_image(encoded(COLOUR, form, **options)), PICTURE) == 0


def test_jpeg_gives_nearly_the_pixels_back() -> None:
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}):
        assert difference(load_image(encoded(COLOUR, "JPEG", quality=95, subsampling=0, **options)), PICTURE) <= 6


def test_modes_become_rgb_within_two_levels() -> None:
    """FAULTS 8: 1-bit, L, LA, P and P with alpha, RGBA, CMYK."""
    bits = COLOUR.convert("1")
    assert difference(load_image(encoded(bits, "PNG")), np.repeat(np.asarray(bits)[..., None] * 255, 3, axis=2)) == 0
    for form in ("PNG", "TIFF", "BMP", "PPM"):
        assert difference(load_image(encoded(COLOUR.convert("L"), form)), GREY_RGB) == 0
    layered = COLOUR.convert("L").convert("LA")
    layered.putalpha(Image.fromarray(ALPHA))
    assert difference(load_image(encoded(layered, "PNG")), on_white(GREY_RGB)) <= 1
    layered = COLOUR.convert("RGBA")
    layered.putalpha(Image.fromarray(ALPHA))
    for form, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert difference(load_image(encoded(layered, form, **options)), on_white(PICTURE)) <= 1
    few = COLOUR.quantize(16)
    colours = np.asarray(few.convert("RGB"))
    assert difference(load_image(encoded(few, "PNG")), colours) == 0
    clear = np.where((np.asarray(few) == 3)[..., None], 255, colours)
    assert difference(load_image(encoded(few, "PNG", transparency=3)), clear) == 0
    key = tuple(int(value) for value in PICTURE[0, 0])
    clear = np.where((PICTURE[0, 0] == PICTURE).all(axis=-1)[..., None], 255, PICTURE)
    assert difference(load_image(encoded(COLOUR, "PNG", transparency=key)), clear) == 0
    inks = COLOUR.convert("CMYK")
    assert difference(load_image(encoded(inks, "TIFF")), PICTURE) <= 1
    assert difference(load_image(encoded(inks, "JPEG", quality=100, subsampling=0)), PICTURE) <= 2


def test_16_bit_grey_and_colour_are_scaled() -> None:
    """FAULTS 8: 16 bits a channel, as PNG, TIFF and PGM."""
    deep = GREY.astype(np.uint16) * 257
    for form in ("PNG", "TIFF"):
        assert difference(load_image(encoded(Image.fromarray(deep), form)), GREY_RGB) == 0
    map_of_greys = f"P5 {deep.shape[1]} {deep.shape[0]} 65535\n".encode() + deep.astype(">u2").tobytes()
    assert difference(load_image(map_of_greys), GREY_RGB) == 0
    assert difference(load_image(encoded(Image.fromarray(deep.astype(np.int32)), "TIFF")), GREY_RGB) == 0
    for ending in (".png", ".tiff"):
        _, data = cv2.imencode(ending, PICTURE[..., ::-1].astype(np.uint16) * 257)
        assert difference(load_image(data.tobytes()), PICTURE) <= 1


@pytest.mark.parametrize("white", [1, 255])
def test_float_tiff_is_white_at_1_or_255(white: int) -> None:
    """FAULTS 8: floating point."""
    values = GREY.astype(np.float32) * np.float32(white / 255)
    assert difference(load_image(encoded(Image.fromarray(values), "TIFF")), GREY_RGB) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 70000, -3])
def test_float_tiff_with_other_values_is_refused(value: float) -> None:
    with pytest.raises(ImageError, match="floating-point values"):
        load_image(encoded(Image.fromarray(np.full((4, 5), value, np.float32)), "TIFF"))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_tiff_in_which_white_is_zero(dtype: str) -> None:
    values = np.array([[0, 1], [1, 1]], dtype) * (65535 if dtype == "uint16" else 1)
    file = encoded(Image.fromarray(values.astype(dtype)), "TIFF")
    black_is_zero, white_is_zero = (struct.pack("<HHIHH", 262, 3, 1, value, 0) for value in (1, 0))
    assert file.count(black_is_zero) == 1
    negative = load_image(file.replace(black_is_zero, white_is_zero))
    np.testing.assert_array_equal(negative, 255 - load_image(file))
    assert negative[0, 0].tolist() == [255, 255, 255]


def test_transparent_grey_of_16_bits_becomes_white() -> None:
    file = encoded(Image.fromarray(np.array([[0, 300, 65535]], np.uint16)), "PNG", transparency=300)
    assert load_image(file)[0, :, 0].tolist() == [0, 255, 255]


def test_integers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(ImageError, match="from -7 to 70000"):
        load_image(encoded(Image.fromarray(np.array([[-7, 70000]], np.int32)), "TIFF"))


# What each orientation did to the upright picture, by the standard's words: where the 0th row and column lie.
TURNED = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation(form: str, orientation: int) -> None:
    """FAULTS 7: orientations 0 to 9; those outside 1 to 8 count as 1."""
    exif = Image.Exif()
    exif[0x112] = orientation
    stored = TURNED.get(orientation, lambda upright: upright)(PICTURE)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(form, {})
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options)
    assert difference(load_image(data), PICTURE) <= (5 if form == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Truncated File Read")
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage garbage",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0\0\0\0\0",  # an orientation in letters
    ],
)
def test_broken_exif_counts_as_none(form: str, block: bytes) -> None:
    """FAULTS 7: a broken EXIF block leaves the pixels as stored."""
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
    assert np.array_equal(
        load_image(encoded(COLOUR, form, exif=block, **options)), load_image(encoded(COLOUR, form, **options))
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("stored", [None, 1, 8])
def test_xmp_turns_nothing(form: str, stored: int | None) -> None:
    """Pillow would take the orientation of an XMP block where EXIF has none; browsers and OpenCV do not."""
    block = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    if stored is not None:
        exif[0x0112] = stored
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", block)
    options = {
        "PNG": {"pnginfo": texts},
        "TIFF": {"tiffinfo": {700: block.encode(), **({} if stored is None else {0x0112: stored})}},
    }.get(form, {"xmp": block.encode()})
    file = encoded(Image.fromarray(drawn_picture()), form, **options, **({} if form == "TIFF" else {"exif": exif}))
    assert b"Orientation" in file
    assert load_image(file).shape == ((70, 48, 3) if stored == 8 else (48, 70, 3))
    assert read_header(file).size == load_image(file).shape[:2]


def test_files_that_would_take_long_to_follow_are_refused() -> None:
    picture = drawn_picture()
    jpeg = encoded(Image.fromarray(picture), "JPEG")
    for tail in (b"\xff", b"\xff\x00", b"\xff\xe1\x00\x02"):
        with pytest.raises(ImageError, match=r"end marker is missing|more than 200000 segments"):
            load_image(jpeg[:-2] + tail * 400_000)
    png = encoded(Image.fromarray(picture), "PNG")
    empty = b"\x00\x00\x00\x00teXt" + zlib.crc32(b"teXt").to_bytes(4, "big")
    with pytest.raises(ImageError, match="more than 200000 chunks"):
        load_image(png[:-12] + 200_001 * empty + png[-12:])


def test_sources_agree(tmp_path) -> None:
    data = encoded(COLOUR, "PNG")
    path = tmp_path / "picture.jpg"  # a wrong ending on a sound picture does no harm
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(load_image(source), PICTURE)
    with path.open("rb") as stream:
        assert np.array_equal(load_image(stream), PICTURE)


def test_sources_of_other_types() -> None:
    for source in (None, 5, PICTURE):
        with pytest.raises(TypeError, match="path, bytes or a binary stream"):
            load_image(source)
    with pytest.raises(TypeError, match="binary mode"):
        load_image(io.StringIO("text"))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 10_000), (10_000, 1), (2, 40_000)])
def test_extreme_shapes(height: int, width: int) -> None:
    """FAULTS 5 and 6: one pixel, one row, a long side."""
    picture = np.resize(np.arange(251, dtype=np.uint8), (height, width, 3))
    assert difference(load_image(encoded(Image.fromarray(picture), "PNG")), picture) == 0


def test_limits_are_checked_before_decoding(tmp_path) -> None:
    data = encoded(COLOUR, "PNG")
    pixels = PICTURE.shape[0] * PICTURE.shape[1]
    assert load_image(data, limits=ImageLimits(max_pixels=pixels)).shape == PICTURE.shape
    with pytest.raises(ImageError, match=r"70 x 48 pixels; at most 3359 .*max_pixels"):
        load_image(data, limits=ImageLimits(max_pixels=pixels - 1))
    path = tmp_path / "large.png"
    path.write_bytes(data)
    for source in (lambda: path, lambda: data, lambda: io.BytesIO(data)):
        assert load_image(source(), limits=ImageLimits(max_bytes=len(data))).shape == PICTURE.shape
        with pytest.raises(ImageError, match="max_bytes"):
            load_image(source(), limits=ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(ValueError, match="at least 1"):
        ImageLimits(max_pixels=0)


def test_large_pictures_pass_without_a_word(recwarn) -> None:
    """Pillow's own warning above 89 million pixels is not ours: the limit is."""
    data = encoded(Image.new("1", (20_000, 5_000)), "PNG")
    with pytest.raises(ImageError, match="max_pixels"):
        load_image(data, limits=ImageLimits(max_pixels=99_000_000))
    assert not recwarn.list


def test_pictures_of_phones_with_extra_pictures_give_no_warning(recwarn) -> None:
    data = encoded(COLOUR, "MPO", save_all=True, append_images=[COLOUR], quality=95, subsampling=0)
    assert difference(load_image(data), PICTURE) <= 6
    assert not recwarn.list


def test_check_image_takes_rgb_as_it_is() -> None:
    """FAULTS 10: read-only arrays, negative strides and views pass unchanged and uncopied."""
    picture = PICTURE.copy()
    picture.flags.writeable = False
    for view in (picture, picture[::-1, ::-1], picture[3:20:2, 5:9], picture[..., ::-1]):
        assert check_image(view) is view
    assert np.array_equal(picture, PICTURE)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (PICTURE.astype(np.float32), r"image \* 255"),
        (np.full((4, 4, 3), np.nan), r"image \* 255"),
        (PICTURE > 5, r"astype\(np.uint8\) \* 255"),
        (PICTURE.astype(np.uint16), ">> 8"),
        (PICTURE.astype(np.int64), "uint8, not int64"),
        (PICTURE.astype(object), "uint8, not object"),
        (PICTURE.transpose(2, 0, 1), "channels first"),
        (PICTURE[..., 0], "grey"),
        (PICTURE[..., :1], "grey"),
        (np.dstack([PICTURE, PICTURE[..., :1]]), "alpha"),
        (PICTURE[..., :2], "not of shape"),
        (PICTURE[None], "predict_batch"),
        (PICTURE[:0], "no pixels"),
        ([[1, 2, 3]], "not list"),
        ("photo.jpg", "not str"),
    ],
)
def test_check_image_says_how_to_convert(image: object, remedy: str) -> None:
    """FAULTS 10: any other array is a ValueError with the remedy."""
    with pytest.raises(ValueError, match=remedy):
        check_image(image)
