"""TRC beyond a round trip: time, metres, and files of earlier runs."""

import numpy as np
import pytest

from wholepose.errors import AnnotationError, ConfigError
from wholepose.formats import open_writer, read_poses_file
from wholepose.poses import Poses
from wholepose.skeletons import COCO17

SIZE = (480, 640)


def person(*tracks, scores=0.9):
    """People of one place, with these track numbers."""
    count = len(tracks)
    places = np.full((count, 17, 2), 100.0) + np.arange(17)[:, None]
    return Poses(
        places,
        np.full((count, 17), scores),
        np.tile([90.0, 90, 130, 130], (count, 1)),
        np.ones(count),
        COCO17,
        track_ids=np.array(tracks, dtype=np.int64),
    )


def write(path, frames, size=SIZE, **options):
    with open_writer(path, skeleton=COCO17, model="m", **options) as writer:
        for index, time_s, poses in frames:
            writer.write(index, time_s, poses, image="clip.mp4", size=size)


def table(path):
    """The header, and of each row frame, time and whether anything is in it."""
    lines = path.read_text().splitlines()
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=True))
    rows = [line.split("\t") for line in lines[6:]]
    return header, [(int(row[0]), float(row[1]), any(row[2:])) for row in rows]


def test_rows_have_the_times_of_their_frames(tmp_path):
    """A telephone's video: 10 frames a second at first, 100 later, with the person out of sight now and then."""
    times = [0, 0.1, 0.2, 0.3, 0.31, 0.32, 0.33, 0.34]
    away = (2, 5, 6)
    write(tmp_path / "a.trc", [(i, t, person() if i in away else person(0)) for i, t in enumerate(times)])
    header, rows = table(tmp_path / "a_person0.trc")
    assert [time for _, time, _ in rows] == pytest.approx(times)
    assert [full for *_, full in rows] == [i not in away for i in range(8)]
    assert header["NumFrames"] == "8"
    assert float(header["DataRate"]) == pytest.approx(7 / 0.34, rel=1e-4)


def test_every_fourth_frame_is_a_row(tmp_path):
    write(tmp_path / "a.trc", [(4 * i, 4 * i / 25, person(0) if i != 2 else person()) for i in range(5)])
    header, rows = table(tmp_path / "a_person0.trc")
    assert [frame for frame, *_ in rows] == [1, 5, 9, 13, 17]
    assert [full for *_, full in rows] == [True, True, False, True, True]
    assert float(header["DataRate"]) == pytest.approx(6.25)


def test_frames_left_out_between_have_blank_rows(tmp_path):
    """As where a file is written that knows nothing of frames without people."""
    write(tmp_path / "a.trc", [(i, i / 25, person(0)) for i in (3, 4, 7, 8)])
    _, rows = table(tmp_path / "a_person0.trc")
    assert [frame for frame, *_ in rows] == [4, 5, 6, 7, 8, 9]
    assert [time for _, time, _ in rows] == pytest.approx([i / 25 for i in range(3, 9)])
    assert [full for *_, full in rows] == [True, True, False, False, True, True]


def test_pictures_count_thirty_a_second(tmp_path):
    write(tmp_path / "a.trc", [(i, None, person(0)) for i in range(3)])
    header, rows = table(tmp_path / "a_person0.trc")
    assert float(header["DataRate"]) == 30
    assert [time for _, time, _ in rows] == pytest.approx([0, 1 / 30, 2 / 30], abs=1e-6)


def test_metres_need_the_height_of_the_frame(tmp_path):
    for size in (None, (0, 0)):
        with pytest.raises(ConfigError, match="height of the frame"):
            write(tmp_path / "a.trc", [(0, 0.0, person(0))], size=size, metres_per_pixel=0.01)
    assert not list(tmp_path.iterdir())
    write(tmp_path / "a.trc", [(0, 0.0, person(0))], size=None)  # pixels need none


def test_people_of_an_earlier_run_go(tmp_path):
    others = [tmp_path / name for name in ("clip_personal.trc", "clip_person1.csv", "clip2_person1.trc")]
    for other in others:
        other.write_text("mine")
    write(tmp_path / "clip.trc", [(i, i / 25, person(0, 1, 2)) for i in range(3)])
    write(tmp_path / "clip.trc", [(i, i / 25, person(1)) for i in range(3)])
    assert [frame.poses.track_ids.tolist() for frame in read_poses_file(tmp_path / "clip.trc")] == [[1]] * 3
    write(tmp_path / "clip.trc", [(0, 0.0, person())])
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_one_number_for_two_people(tmp_path):
    with pytest.raises(ConfigError, match="comes twice in frame 0"):
        write(tmp_path / "a.trc", [(0, 0.0, person(3, 3))])


def test_missing_keypoints_stay_blank_at_any_threshold(tmp_path):
    from wholepose.formats.trc import TrcWriter

    with TrcWriter(tmp_path / "a.trc", skeleton=COCO17, model="m", threshold=0) as writer:
        writer.write(0, 0.0, person(0, scores=0.0), image="a", size=SIZE)
    assert table(tmp_path / "a_person0.trc")[1] == [(1, 0.0, False)]


def test_numbers_that_no_float32_holds(tmp_path):
    write(tmp_path / "a.trc", [(0, 0.0, person(0))])
    file = tmp_path / "a_person0.trc"
    file.write_text(file.read_text().replace("100.000", "1e39", 1))
    with pytest.raises(AnnotationError, match=r"line 7.*out of range"):
        list(read_poses_file(file))
