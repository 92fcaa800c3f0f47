"""What a video may come from, and opening it so that nothing else is opened along with it.

A file is handed to FFmpeg as an open file without a name, read only by demuxers that hold their pictures themselves:
a playlist that poses as a video names other files and addresses, and none of them is ever opened. Cameras and addresses
are opened only where they are named as such.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wholepose.errors import VideoError
from wholepose.images.kinds import HEAD_BYTES, kind_of, printable_path

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".m2v"),
        *(".vob", ".ts", ".m2ts", ".mts", ".flv", ".f4v", ".ogv", ".wmv", ".asf", ".mxf", ".y4m"),
    ]
)
"""Endings, in lower case, by which videos are told from other files."""

# Demuxers whose files hold their own pictures. Not here: playlists (hls, dash, concat) and numbered pictures (image2).
_FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,ogg,asf,mxf,ivf,yuv4mpegpipe,gif"
)
_ADDRESS = re.compile(r"(rtsps?|https?)://.+", re.IGNORECASE | re.DOTALL)
_ADDRESS_PROTOCOLS = "http,https,httpproxy,rtsp,rtsps,rtp,srtp,udp,tcp,tls,crypto"
_CAMERA = re.compile(r"webcam:(.*)", re.DOTALL)
_OPEN_TIMEOUT_S = 15.0
READ_TIMEOUT_S = 15.0
"""How long a camera or an address may send nothing."""

_VIDEO_KINDS = frozenset(
    ["an MP4 or MOV video", "a Matroska or WebM video", "an AVI video", "an MPEG video"]  # as kind_of words them
)


def is_stream(source: str | os.PathLike[str]) -> bool:
    """Whether a source is a camera (``webcam:0``) or an address (``rtsp://``, ``http://``), which need have no end."""
    return isinstance(source, str) and bool(_CAMERA.fullmatch(source) or _ADDRESS.fullmatch(source))


def is_download(source: str | os.PathLike[str]) -> bool:
    """Whether a source comes as fast as it is read, if it has an end at all: an ``http://`` address."""
    return isinstance(source, str) and source.lower().startswith("http")


def is_video_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is to be read as a video: by its ending, or by its first bytes where the ending says nothing."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()  # noqa: PTH122 - of any name, also one that is no path
    if suffix in VIDEO_SUFFIXES:
        return True
    if suffix:
        return False
    try:
        with _open_file(os.fspath(path)) as file:
            return kind_of(file.read(HEAD_BYTES)) in _VIDEO_KINDS
    except VideoError:
        return False


def source_name(source: str | os.PathLike[str]) -> str:
    """A source as messages name it: without what cannot be printed, and without a password."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", printable_path(source))


def open_container(source: str | os.PathLike[str]) -> tuple[InputContainer, BinaryIO | None]:
    """Opens a source for reading.

    Args:
        source: Path of a file, ``webcam:N`` or an address.

    Returns:
        The container, and the file under it, which is to be closed after it; None for cameras and addresses.

    Raises:
        VideoError: There is no such source, it is no video, or it does not answer in time.
    """
    name = source_name(source)
    if isinstance(source, str) and is_stream(source):
        return _open_stream(source, name), None
    file = _open_file(os.fspath(source))
    try:
        head = file.read(HEAD_BYTES)
        file.seek(0)
        if not head:
            raise VideoError(f"{name}: is empty")
        return _open(name, head, file, options={"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"}), file
    except BaseException:
        file.close()
        raise


def _open(name: str, head: bytes, file: Any, **how: Any) -> InputContainer:
    import av

    try:
        container: InputContainer = av.open(file, "r", metadata_errors="replace", **how)
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(error, (TimeoutError, av.error.ExitError)):
            raise VideoError(f"{name}: did not answer within {_OPEN_TIMEOUT_S:.0f} s") from error
        if not head:
            raise VideoError(f"{name}: cannot be opened ({error.strerror or error})") from error
        kind = kind_of(head)
        if kind in _VIDEO_KINDS:
            raise VideoError(
                f"{name}: is {kind} that cannot be read: its table of contents is missing or damaged, as in a file "
                "that was not recorded or copied to its end"
            ) from error
        raise VideoError(f"{name}: is no video that can be read; the file is {kind}") from error
    return container


def _open_file(path: str) -> BinaryIO:
    """Opens a regular file; a pipe or a device would wait for ever or not be seekable."""
    name = source_name(path)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise VideoError(f"{name}: is no file but a folder, a pipe or a device; cameras are called webcam:0")
        return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{name}: cannot be opened ({reason})") from error


def _open_stream(source: str, name: str) -> InputContainer:
    camera = _CAMERA.fullmatch(source)
    timeout = (_OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    if camera is None:
        # Two seconds of a stream tell what it is; FFmpeg would wait for five.
        options = {"protocol_whitelist": _ADDRESS_PROTOCOLS, "analyzeduration": "2000000"}
        if source.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets on ordinary networks, and firewalls stop it
        return _open(name, b"", source, options=options, timeout=timeout)
    number = camera.group(1)
    if sys.platform == "win32":
        if number.isdigit() or not number:
            raise VideoError(f"{name}: Windows knows cameras by name; write webcam:NAME, such as 'webcam:USB Camera'")
        return _open(name, b"", f"video={number}", format="dshow", timeout=timeout)
    if not (number.isascii() and number.isdigit()):
        raise VideoError(f"{name}: cameras are counted from 0: webcam:0")
    if sys.platform == "darwin":
        return _open(name, b"", f"{number}:none", format="avfoundation", options={"framerate": "30"}, timeout=timeout)
    return _open(name, b"", f"/dev/video{number}", format="v4l2", timeout=timeout)
