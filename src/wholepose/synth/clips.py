"""Writes clips of synthetic people: MP4 and one Halpe-format JSON with identities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av

from wholepose.errors import ConfigError, VideoError
from wholepose.outputs import atomic_path, write_json
from wholepose.synth.dataset import Written, describe, document
from wholepose.synth.motion import draw_clip
from wholepose.synth.people import SynthPeople

FPS = 25


def write_clip(
    people: SynthPeople,
    folder: Path,
    index: int,
    frames: int,
    options: Mapping[str, object],
    *,
    advance: Callable[[int], None] = lambda _done: None,
) -> None:
    """Writes clip number `index` as ``clip_000000.mp4`` and ``clip_000000.json``, both whole or absent.

    The JSON has one image a frame, named ``clip_000000.mp4#frame``, with ``frame_index``; ``track_id`` of an annotation
    says who it is.

    Args:
        people: Draws the frames.
        folder: Where to; made if missing.
        index: Number of the clip.
        frames: How many frames.
        options: All that decides what the clip looks like; kept in the JSON.
        advance: Called with the number of frames done.

    Raises:
        ConfigError: The clip is there already.
        VideoError: The clip cannot be encoded.
    """
    name = f"clip_{index:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".mp4", ".json"):
        if (folder / (name + suffix)).exists():
            raise ConfigError(f"{folder / (name + suffix)} is there already; choose another --out or --seed")
    written = Written()
    height, width = people.size
    with atomic_path(folder / f"{name}.mp4") as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4") as container:
                stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": "20"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for number, sample in enumerate(draw_clip(people, index, frames, FPS)):
                    frame = av.VideoFrame.from_ndarray(sample.image, format="rgb24")
                    container.mux(stream.encode(frame))
                    image, rows = describe(
                        sample,
                        number,
                        f"{name}.mp4#{number}",
                        len(written.annotations) + 1,
                        [int(person) for person in sample.person_ids],
                    )
                    written.images.append({**image, "frame_index": number})
                    written.annotations.extend(rows)
                    advance(number + 1)
                container.mux(itertools.chain(stream.encode(None)))
        except av.FFmpegError as error:
            raise VideoError(f"{folder / name}.mp4 cannot be written: {error}") from error
    write_json(folder / f"{name}.json", document(written, options))
