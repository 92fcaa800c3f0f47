"""Video in and out: frames from files, cameras and streams; H.264 files with sound."""

from wholepose.videos.reader import Frame, VideoInfo, VideoReader, open_video
from wholepose.videos.sources import VIDEO_SUFFIXES, is_stream, is_video_file, source_name
from wholepose.videos.writer import VideoWriter

__all__ = [
    "VIDEO_SUFFIXES",
    "Frame",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "is_stream",
    "is_video_file",
    "open_video",
    "source_name",
]
