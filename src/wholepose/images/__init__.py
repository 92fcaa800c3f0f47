"""Pictures in and out: reading with limits, finding on disk, writing."""

from wholepose.images.find import IMAGE_SUFFIXES, FoundImages, find_images
from wholepose.images.kinds import printable_path
from wholepose.images.read import ImageHeader, ImageLimits, check_image, load_image, read_header, turn_back
from wholepose.images.write import save_image

__all__ = [
    "IMAGE_SUFFIXES",
    "FoundImages",
    "ImageHeader",
    "ImageLimits",
    "check_image",
    "find_images",
    "load_image",
    "printable_path",
    "read_header",
    "save_image",
    "turn_back",
]
