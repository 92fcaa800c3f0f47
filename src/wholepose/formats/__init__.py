"""Files that hold poses frame by frame: ours, and those that other tools read."""

from wholepose.formats.files import FORMATS, open_writer, read_poses_file
from wholepose.formats.frame import PoseFrame
from wholepose.formats.json_files import json_line
from wholepose.formats.tables import read_angles
from wholepose.formats.writer import PoseWriter

__all__ = ["FORMATS", "PoseFrame", "PoseWriter", "json_line", "open_writer", "read_angles", "read_poses_file"]
