"""Reading pictures: one call for every source, within limits, upright, with one exception type.

The bytes decide what a picture is, never its name, and exactly one Pillow plug-in is asked: no format outside the list
can be opened by accident, no sub-process runs, and Pillow's global settings are neither used nor changed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from wholepose.errors import ImageError
from wholepose.images.intact import check_jpeg_end, check_png_chunks
from wholepose.images.kinds import HEAD_BYTES, kind_of, printable_path

READERS: Mapping[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
"""The kinds of pictures that are read, by their name in `kind_of`."""

_KINDS = ", ".join(READERS)
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")
# 16-bit grey to 8 bits: 65535 is white, rounded to the nearest.
_FROM_16_BITS = ((np.arange(65536, dtype=np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


@dataclass(frozen=True)
class ImageLimits:
    """How large a picture may be before it is refused.

    Attributes:
        max_pixels: Height x width, checked in the header before anything is decoded. The default holds 40,000 x 5,000.
        max_bytes: Size of the file, checked before it is read.
    """

    max_pixels: int = 200_000_000
    max_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        """Checks that both limits are positive.

        Raises:
            ValueError: One is not.
        """
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise ValueError(f"limits must be at least 1, not {self}")


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True)
class ImageHeader:
    """What is known of a picture before its pixels are decoded.

    Attributes:
        size: (height, width) upright.
        orientation: EXIF orientation, 1 to 8: how the stored pixels are turned and mirrored to stand upright.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) of the stored pixels."""
        return self.size if self.orientation < 5 else self.size[::-1]


def load_image(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO, *, limits: ImageLimits = DEFAULT_LIMITS
) -> NDArray[np.uint8]:
    """Reads a picture.

    JPEG, PNG, WebP, GIF, TIFF, BMP and PPM are read, whatever the file is called. The EXIF orientation is applied; a
    broken EXIF block counts as none. Transparent places become white. 16-bit grey is scaled by 255 / 65535. Floating
    point is white at 1 where no value exceeds 2, else at 255, and is clipped. CMYK is converted without its colour
    profile. Of an animation or a document the first frame or page is used, with one warning. A file that is cut short
    is refused even where a viewer would show its first rows.

    Args:
        source: Path of a file, or the file's bytes, or a binary stream that is read from where it stands to its end.
        limits: What to refuse before decoding.

    Returns:
        (H, W, 3) uint8 RGB, upright, contiguous and writable.

    Raises:
        ImageError: The picture cannot be read, is cut short, is over a limit or is something else; the message names
            the file and what was found in it.
        TypeError: `source` is of another type.
    """
    name, data, kind = _read(source, limits)
    with _named_errors(name, kind):
        return _decode(data, kind, name, limits)


def read_header(source: str | os.PathLike[str] | bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Reads what a picture is, and refuses what `load_image` refuses, but for damage that decoding alone shows.

    Args:
        source: Path of a file, or the file's bytes.
        limits: As in `load_image`.

    Returns:
        The picture's size and orientation.

    Raises:
        ImageError: The picture cannot be read, is cut short, is over a limit or is something else.
    """
    name, data, kind = _read(source, limits)
    with _named_errors(name, kind), _open(data, kind, name, limits) as image:
        width, height = image.size
        orientation = _orientation(image)
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size is upright or stored, by Pillow's version
            width, height = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
        return ImageHeader((height, width) if orientation < 5 else (width, height), orientation)


def check_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Checks a picture that a caller passes as an array.

    Read-only arrays, negative strides and views are fine; nothing is copied or changed.

    Args:
        image: (H, W, 3) uint8 RGB, at least 1 x 1.

    Returns:
        The same array.

    Raises:
        ValueError: Another type, dtype or shape; the message says how to convert it.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"an image must be a NumPy array (H, W, 3) uint8 RGB, not {type(image).__name__}")
    shape = image.shape
    if image.dtype != np.uint8:
        remedy = ""
        if image.dtype == np.bool_:
            remedy = "; use image.astype(np.uint8) * 255"
        elif image.dtype.kind == "f":
            remedy = "; where white is 1, use (image * 255).round().clip(0, 255).astype(np.uint8)"
        elif image.dtype == np.uint16:
            remedy = "; use (image >> 8).astype(np.uint8)"
        raise ValueError(f"an image must be uint8, not {image.dtype} of shape {shape}{remedy}")
    if image.ndim == 3 and shape[2] == 3 and shape[0] > 0 and shape[1] > 0:
        return image
    remedy = ""
    if image.size == 0:
        remedy = "; it has no pixels"
    elif image.ndim == 2 or (image.ndim == 3 and shape[2] == 1):
        remedy = "; a grey image is np.repeat(image.reshape(H, W, 1), 3, axis=2)"
    elif image.ndim == 3 and shape[2] == 4:
        remedy = "; drop the alpha channel with image[..., :3]"
    elif image.ndim == 3 and shape[0] in (1, 3, 4):
        remedy = "; it looks like channels first: use image.transpose(1, 2, 0)"
    elif image.ndim == 4:
        remedy = "; pass several images as a list to predict_batch"
    raise ValueError(f"an image must be (H, W, 3) uint8 RGB, not of shape {shape}{remedy}")


def _read(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO, limits: ImageLimits
) -> tuple[str, bytes, str]:
    """What to call a picture, its bytes, and its kind, a key of `READERS`."""
    if isinstance(source, (str, os.PathLike)):
        name = printable_path(source)
        data = _read_file(source, name, limits)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, data = "image bytes", bytes(source)
    elif hasattr(source, "read"):
        name = _stream_name(source)
        data = _read_stream(source, name, limits)
    else:
        raise TypeError(
            f"an image is a path, bytes or a binary stream, not {type(source).__name__}; arrays need no load"
        )
    if len(data) > limits.max_bytes:
        raise ImageError(f"{name}: more than {limits.max_bytes} bytes; the limit is ImageLimits.max_bytes")
    return name, data, _check_kind(data[:HEAD_BYTES], name)


@contextlib.contextmanager
def _named_errors(name: str, kind: str) -> Iterator[None]:
    """Turns whatever a decoder raises into an error that names the file."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: this {kind} file does not fit into memory") from error
    except Exception as error:  # a decoder fed with damaged bytes raises nearly anything
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{name}: this {kind} file cannot be decoded; it is damaged, cut short or of a rare kind ({reason})"
        ) from error


def _stream_name(stream: BinaryIO) -> str:
    name = getattr(stream, "name", None)
    return printable_path(name) if isinstance(name, (str, bytes)) else "image stream"


def _read_stream(stream: BinaryIO, name: str, limits: ImageLimits) -> bytes:
    """Reads a stream to its end, or to one byte more than the limit."""
    pieces = []
    wanted = limits.max_bytes + 1
    try:
        while wanted > 0 and (piece := stream.read(min(wanted, 1 << 20))):
            if not isinstance(piece, bytes):
                raise TypeError(f"an image stream must be opened in binary mode; {name} gives {type(piece).__name__}")
            pieces.append(piece)
            wanted -= len(piece)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name}: cannot be read ({error})") from error
    return b"".join(pieces)


def _read_file(path: str | os.PathLike[str], name: str, limits: ImageLimits) -> bytes:
    """Reads a regular file; never waits for a pipe, never touches a device."""
    try:
        # Asked before opening, since opening a device can do something, and again after, since the name may have moved.
        _check_regular(Path(path).stat(), name, limits)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            _check_regular(os.fstat(file.fileno()), name, limits)
            head = file.read(HEAD_BYTES)
            _check_kind(head, name)
            return head + file.read(limits.max_bytes + 1 - len(head))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(f"{name}: {_reason(error, os.fspath(path))}") from error


def _reason(error: OSError | ValueError, path: str) -> str:
    """Says in plain words why a path cannot be opened."""
    if isinstance(error, FileNotFoundError):
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
            return "is an address; save the picture and name the file"
        return "is a link to nothing" if Path(path).is_symlink() else "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read by this user (permission denied)"
    if isinstance(error, OSError):
        if error.errno == errno.ELOOP:
            return "is a symbolic link that leads to itself"
        return f"cannot be read ({error.strerror or error})"
    return f"is no path ({error})"


def _check_regular(status: os.stat_result, name: str, limits: ImageLimits) -> None:
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        kinds = {
            stat.S_IFDIR: "a folder",
            stat.S_IFIFO: "a pipe",
            stat.S_IFSOCK: "a socket",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }
        raise ImageError(f"{name}: is {kinds.get(stat.S_IFMT(mode), 'a special file')}, not an image file")
    if status.st_size > limits.max_bytes:
        raise ImageError(
            f"{name}: has {status.st_size} bytes; at most {limits.max_bytes} are read (ImageLimits.max_bytes)"
        )


def _check_kind(head: bytes, name: str) -> str:
    """Returns the kind of picture, a key of `READERS`."""
    kind = kind_of(head)
    if kind in READERS:
        return kind
    if kind.endswith(("picture", "drawing", "icon", "Photoshop document")):
        raise ImageError(f"{name}: is {kind}, which is not read; convert it to one of {_KINDS}")
    raise ImageError(f"{name}: is {kind}, not an image ({_KINDS} are read)")


def _open(data: bytes, kind: str, name: str, limits: ImageLimits) -> ImageFile.ImageFile:
    """Opens a picture and checks what can be checked without decoding it."""
    if kind == "PNG":
        check_png_chunks(data, name)
    image = READERS[kind](io.BytesIO(data))
    _drop_xmp(image)  # before the TIFF reader turns the picture
    _check_size(image, name, limits)
    if kind == "JPEG":
        check_jpeg_end(data, name)
    return image


def _decode(data: bytes, kind: str, name: str, limits: ImageLimits) -> NDArray[np.uint8]:
    """Opens, checks, decodes and turns a picture; lets a decoder's own exceptions through."""
    with _open(data, kind, name, limits) as image:
        several = kind != "JPEG" and _has_several_frames(image)  # the extra pictures of a JPEG are no frames
        image.load()
        # After loading: the TIFF reader turns its pictures itself and then forgets the orientation.
        orientation = _orientation(image)
        pixels = _upright(_to_rgb(image, name), orientation)
    if several:
        warnings.warn(f"{name}: holds several frames; only the first is used", stacklevel=3)
    return pixels


def _check_size(image: ImageFile.ImageFile, name: str, limits: ImageLimits) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width} x {height})")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{name}: is {width} x {height} pixels; at most {limits.max_pixels} pixels are decoded "
            f"(ImageLimits.max_pixels)"
        )


def _has_several_frames(image: ImageFile.ImageFile) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage behind the first frame, which is not asked for
        return False


def _orientation(image: ImageFile.ImageFile) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    try:
        value = _exif(image).get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block takes nothing from the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(image: ImageFile.ImageFile) -> Image.Exif:
    """The EXIF block alone: Pillow would take the orientation of an XMP block too, by which nobody else turns."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):  # opening it has already mixed both
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        return exif
    if isinstance(image, PngImagePlugin.PngImageFile) and "exif" not in image.info:
        image.load()  # it may stand behind the pixels
    _drop_xmp(image)
    return image.getexif()


def _drop_xmp(image: ImageFile.ImageFile) -> None:
    for name in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(name, None)


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns and mirrors pixels (H, W, 3) so that the picture stands upright."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turn_back(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns and mirrors upright pixels (H, W, 3) the way they are stored, by the picture's EXIF orientation."""
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


def _to_rgb(image: ImageFile.ImageFile, name: str) -> NDArray[np.uint8]:
    """Returns the pixels of a loaded picture of any mode as (H, W, 3) uint8."""
    mode = image.mode
    if mode == "I" or mode.startswith("I;16"):
        values = np.asarray(image)
        if mode == "I" and (values.min() < 0 or values.max() > 65535):
            raise ImageError(
                f"{name}: has integer values from {values.min()} to {values.max()}; save it with 8 or 16 bits"
            )
        grey = _FROM_16_BITS[values]
        if isinstance(transparent := image.info.get("transparency"), int):
            grey[values == transparent] = 255
        return _grey_to_rgb(grey, image)
    if mode == "F":
        return _grey_to_rgb(_from_floats(np.asarray(image), name), image)
    if mode in _ALPHA_MODES or image.has_transparency_data:
        # The pre-multiplied modes convert only to their plain counterparts.
        plain = image.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode)) if mode in ("La", "RGBa") else image
        layered = plain.convert("RGBA")
        paper = Image.new("RGB", image.size, (255, 255, 255))
        paper.paste(layered, mask=layered.getchannel("A"))
        return np.array(paper)
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _grey_to_rgb(grey: NDArray[np.uint8], image: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """Repeats grey (H, W), which Pillow leaves negative where white is 0 in a TIFF of more than 8 bits."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        negative = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        grey = 255 - grey if negative else grey
    return np.repeat(grey[..., None], 3, axis=2)


def _from_floats(values: NDArray[np.float32], name: str) -> NDArray[np.uint8]:
    """Scales a floating-point picture (H, W) to 8 bits: white is 1 where no value exceeds 2, else 255."""
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= -1 and highest <= 256):  # also false for NaN
        raise ImageError(
            f"{name}: has floating-point values from {lowest:g} to {highest:g}; they must lie in [0, 1] or [0, 255]"
        )
    scaled = values * (255 if highest <= 2 else 1)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
