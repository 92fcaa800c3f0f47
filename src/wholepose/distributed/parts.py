"""Parts: the Parquet files of a dataset's results, each whole or absent, each knowing which sources it holds.

A part's name follows from the sources it is to hold, and what it holds is written in its footer. So a part that is made
twice, as after the loss of a machine, replaces itself, and a job that starts again reads from the footers what is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wholepose.distributed.storage import Source, Store, whole_file
from wholepose.errors import AnnotationError, require
from wholepose.poses import Poses
from wholepose.skeletons import Skeleton

FOOTER_KEY = "wholepose.part"
_ROWS_PER_GROUP = 4096
_FOOTER_READERS = 32


@dataclass(frozen=True)
class PartPlan:
    """A part that is to be made.

    Attributes:
        name: Of its file.
        sources: What it is to hold.
    """

    name: str
    sources: tuple[Source, ...]


@dataclass
class PartFooter:
    """What a part says about itself.

    Attributes:
        model: Name of the pose model.
        settings: How it was used.
        done: Names of the sources it holds; such a source may have no rows, where nobody is in it.
        damaged: Of those, what could not be read in them, by name.
        pictures: How many of them are pictures.
        frames: Frames of those that are videos.
        people: Rows.
    """

    model: str
    settings: Mapping[str, Any]
    done: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    pictures: int = 0
    frames: int = 0
    people: int = 0


def plan_parts(sources: Sequence[Source], done: frozenset[str] | set[str], pictures_per_part: int) -> list[PartPlan]:
    """Divides sources into parts: pictures in groups, each video alone.

    The groups are cut from all sources, and then lose those that are done, so that a job which starts again while
    workers of the last one are still at it plans the parts that they are making.

    Args:
        sources: Sorted.
        done: Names of those to leave out.
        pictures_per_part: Most pictures in a part.
    """
    pictures = [source for source in sources if not source.is_video]
    groups = [pictures[start : start + pictures_per_part] for start in range(0, len(pictures), pictures_per_part)]
    groups += [[source] for source in sources if source.is_video]
    plans = []
    for group in groups:
        left = tuple(source for source in group if source.name not in done)
        if left:
            digest = hashlib.sha256("\0".join(source.name for source in left).encode()).hexdigest()
            plans.append(PartPlan(f"part-{digest[:20]}.parquet", left))
    return plans


def read_footers(folder: Store) -> dict[str, PartFooter]:
    """Reads what the parts in a folder say about themselves, by the names of their files.

    Raises:
        AnnotationError: A file among them is no part.
        OSError: The folder cannot be listed.
    """
    fs = require("pyarrow.fs", "ray")
    files = folder.filesystem.get_file_info(fs.FileSelector(folder.path, allow_not_found=True))
    names = sorted(
        file.base_name
        for file in files
        if file.type == fs.FileType.File and file.base_name.startswith("part-") and file.extension == "parquet"
    )
    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        return dict(zip(names, pool.map(lambda name: read_footer(folder, name), names), strict=True))


def read_footer(folder: Store, name: str) -> PartFooter:
    """Reads what one part says about itself.

    Raises:
        AnnotationError: The file is no part.
    """
    arrow = require("pyarrow", "ray")
    parquet = require("pyarrow.parquet", "ray")
    where = folder.address(f"{folder.path}/{name}")
    try:
        metadata = parquet.read_metadata(f"{folder.path}/{name}", filesystem=folder.filesystem).metadata or {}
        return PartFooter(**json.loads(metadata[FOOTER_KEY.encode()]))
    except KeyError as error:
        raise AnnotationError(f"{where}: was not written by wholepose; choose another folder") from error
    except (OSError, arrow.ArrowException, ValueError, TypeError) as error:
        raise AnnotationError(f"{where}: cannot be read as a part of a dataset: {error}") from error


class PartWriter:
    """Collects the people of a part and writes them in row groups; see ``open_part``."""

    def __init__(self, path: os.PathLike[str], skeleton: Skeleton, *, uncertainty: bool) -> None:
        self._arrow = require("pyarrow", "ray")
        parquet = require("pyarrow.parquet", "ray")
        self._schema = part_schema(skeleton, uncertainty=uncertainty)
        # Keypoints hardly repeat: a dictionary of them is larger than they are. Bytes of a kind together pack better.
        lists = [f"{name}.list.element" for name in ("x", "y", "score", "covariance") if name in self._schema.names]
        self._parquet = parquet.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=["source"], use_byte_stream_split=lists
        )
        self._skeleton = skeleton
        self._uncertainty = uncertainty
        self._waiting: list[Any] = []
        self._rows = 0

    def write(
        self, source: Source, size: tuple[int, int], poses: Poses, *, frame: int = 0, time_s: float = 0.0
    ) -> None:
        """Adds the people of a picture, or of a frame of a video.

        Args:
            source: The picture or video.
            size: (height, width) of the upright picture in pixels.
            poses: The people.
            frame: Number of the frame.
            time_s: Its time.
        """
        arrow, count = self._arrow, len(poses)
        if not count:
            return
        lists = {"box": poses.boxes, "x": poses.keypoints[..., 0], "y": poses.keypoints[..., 1], "score": poses.scores}
        if self._uncertainty and poses.covariances is not None:
            lists["covariance"] = poses.covariances[..., [0, 0, 1], [0, 1, 1]].reshape(count, -1)
        single = {
            "source": [source.name] * count,
            "is_video": [source.is_video] * count,
            "frame": [frame] * count,
            "time_s": [time_s] * count,
            "height": [size[0]] * count,
            "width": [size[1]] * count,
            "person": list(range(count)),
            "track_id": [None] * count if poses.track_ids is None else poses.track_ids.tolist(),
            "box_score": poses.box_scores,
            "person_score": poses.instance_scores(),
        }
        columns = []
        for column in self._schema:
            if column.name in lists:
                values = np.ascontiguousarray(lists[column.name], dtype=np.float32).reshape(-1)
                columns.append(arrow.FixedSizeListArray.from_arrays(arrow.array(values), type=column.type))
            else:
                columns.append(arrow.array(single[column.name], type=column.type))
        self._waiting.append(arrow.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows += count
        if self._rows >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._parquet.write_table(self._arrow.Table.from_batches(self._waiting, schema=self._schema))
        self._waiting, self._rows = [], 0

    def finish(self, footer: PartFooter) -> None:
        """Writes what is left, and the footer."""
        self._flush()
        self._parquet.add_key_value_metadata({FOOTER_KEY: json.dumps(vars(footer))})
        self._parquet.close()


def part_schema(skeleton: Skeleton, *, uncertainty: bool) -> Any:
    """The columns of a part: a row for each person.

    ``x``, ``y`` (pixels) and ``score`` are lists with an entry a keypoint, ``box`` is (x1, y1, x2, y2) in pixels,
    ``covariance`` has xx, xy, yy of each keypoint in px^2.
    """
    arrow = require("pyarrow", "ray")
    count, f32 = skeleton.num_keypoints, arrow.float32()
    fields = {
        "source": arrow.string(),
        "is_video": arrow.bool_(),
        "frame": arrow.int64(),
        "time_s": arrow.float64(),
        "height": arrow.int32(),
        "width": arrow.int32(),
        "person": arrow.int32(),
        "track_id": arrow.int64(),
        "box": arrow.list_(f32, 4),
        "box_score": f32,
        "person_score": f32,
        "x": arrow.list_(f32, count),
        "y": arrow.list_(f32, count),
        "score": arrow.list_(f32, count),
    }
    if uncertainty:
        fields["covariance"] = arrow.list_(f32, 3 * count)
    words = {"wholepose.skeleton": skeleton.name, "wholepose.keypoints": json.dumps(skeleton.keypoint_names)}
    return arrow.schema(list(fields.items()), metadata=words)


@contextlib.contextmanager
def open_part(folder: Store, name: str, skeleton: Skeleton, *, uncertainty: bool) -> Iterator[PartWriter]:
    """Gives a writer whose file appears in a folder when the block ends without error; call ``finish`` in it.

    Raises:
        OSError: It cannot be written.
    """
    with whole_file(folder, name) as path:
        yield PartWriter(path, skeleton, uncertainty=uncertainty)
