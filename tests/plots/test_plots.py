import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from wholepose.cli.main import main
from wholepose.errors import ConfigError
from wholepose.formats import PoseFrame, open_writer, read_poses_file
from wholepose.images import load_image
from wholepose.plots import collect_panels, html_page, png_image
from wholepose.poses import Poses
from wholepose.skeletons import HALPE26


def clip(count=30, tracks=(0, 1)):
    """People whose knees bend and who drift to the right; person 1 is away in frames 10 to 14."""
    random = np.random.default_rng(0)
    shape = random.uniform(0, 100, (26, 2))
    for index in range(count):
        present = [track for track in tracks if not (track == 1 and 10 <= index < 15)]
        keypoints = np.stack([shape + np.array([3 * index + 200 * track, 10 * track]) for track in present])
        keypoints[:, HALPE26.index("left_ankle"), 0] += index
        scores = np.full(keypoints.shape[:2], 0.9)
        yield PoseFrame(
            index,
            index / 30,
            Poses(keypoints, scores, np.zeros((len(present), 4)), np.ones(len(present)), HALPE26, track_ids=present),
        )


def test_panels_hold_the_numbers():
    panels = collect_panels(clip(), keypoints=["nose"], angles=["left_knee"])
    assert [panel.title for panel in panels] == ["nose x (px)", "nose y (px)", "left_knee angle (°)"]
    assert [panel.downwards for panel in panels] == [False, True, False]
    first, second = panels[0].series
    assert (first.person, second.person) == (0, 1)
    np.testing.assert_allclose(np.diff(first.y), 3, atol=1e-4)
    assert first.x[1] == pytest.approx(1 / 30)
    assert np.isnan(second.y).sum() == 1  # the line breaks once
    assert 0 <= panels[2].series[0].y[0] <= 180


def test_lines_break_where_a_file_has_no_frames_without_people(tmp_path):
    for suffix in ("jsonl", "csv"):
        with open_writer(tmp_path / f"a.{suffix}", skeleton=HALPE26, model="") as writer:
            for frame in clip(60, tracks=(0,)):
                poses = frame.poses[[]] if 20 <= frame.frame_index < 40 else frame.poses
                writer.write(frame.frame_index, frame.time_s, poses, image="a.mp4", size=(480, 640))
        (series,) = collect_panels(read_poses_file(tmp_path / f"a.{suffix}"), keypoints=["nose"])[0].series
        assert np.flatnonzero(np.isnan(series.y)).tolist() == [20]
        assert len(series.y) == 41


def test_keypoints_that_are_missing_are_never_drawn():
    frames = list(clip(5, tracks=(0,)))
    frames[2] = replace(frames[2], poses=replace(frames[2].poses, scores=np.zeros((1, 26))))
    panels = collect_panels(frames, keypoints=["nose"], angles=["left_knee"], threshold=0)
    for panel in panels:
        assert np.flatnonzero(np.isnan(panel.series[0].y)).tolist() == [2]


def test_people_seen_for_a_moment_are_left_out_unless_named():
    frames = list(clip(60))
    ghost = next(clip(1, tracks=(7,))).poses
    frames[30] = PoseFrame(30, 1.0, Poses.concatenate([frames[30].poses, ghost]))
    assert [series.person for series in collect_panels(frames, angles=["left_knee"])[0].series] == [0, 1]
    assert [series.person for series in collect_panels(frames, angles=["left_knee"], people=[7])[0].series] == [7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keypoints": ["tail"]}, "tail.*nose"),
        ({"angles": ["left_tail"]}, "left_tail.*left_elbow"),
        ({"angles": ["left_knee"], "people": [5]}, "no person 5.*0, 1"),
        ({"angles": ["left_knee"], "people": range(9)}, "9 people cannot be told apart.*8 at most"),
    ],
)
def test_names_that_are_not_there(options, message):
    with pytest.raises(ConfigError, match=message):
        collect_panels(clip(), **options)


def test_page_and_picture():
    panels = collect_panels(clip(), keypoints=["nose"], angles=["left_knee"])
    page = html_page(panels, "<a&b>.jsonl")
    assert "&lt;a&amp;b&gt;.jsonl" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    svg = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    assert len([line for line in svg.iter("polyline") if line.get("stroke") == "#d55e00"]) == 6  # two pieces a chart
    image = png_image(panels, "clip")
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert (image != 255).any(axis=2).mean() > 0.005
    assert (png_image(panels, "舞蹈") == png_image(panels, "")).all()  # no letters of the font


class TestCommand:
    @pytest.fixture
    def poses_file(self, tmp_path):
        path = tmp_path / "poses.jsonl"
        with open_writer(path, skeleton=HALPE26, model="m") as writer:
            for frame in clip():
                writer.write(frame.frame_index, frame.time_s, frame.poses, image="clip.mp4", size=(480, 640))
        return path

    @pytest.mark.parametrize("name", ["plot.png", "plot.html"])
    def test_writes_the_plot(self, poses_file, name):
        out = poses_file.with_name(name)
        assert main(["plot", str(poses_file), "--out", str(out)]) == 0
        if name.endswith("png"):
            assert load_image(out).shape[1] > 1000
        else:
            assert out.read_text(encoding="utf-8").count("(px)") == 8

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--out", "plot.svg"], ".png or .html"),
            (["--out", "plot.png", "--keypoints", "none", "--angles", "none"], "nothing to plot"),
            (["--out", "plot.png", "--people", "77"], "no person 77"),
            (["--out", "plot.png", "--angles", "left_tail"], "left_tail"),
            (["--out", "plot.png", "--threshold", "7"], "0 to 1"),
            (["--out", "plot.png", "--people", "a"], "whole numbers"),
        ],
    )
    def test_bad_usage(self, poses_file, words, message, capsys, monkeypatch):
        monkeypatch.chdir(poses_file.parent)
        assert main(["plot", str(poses_file), *words]) == 2
        assert message in capsys.readouterr().err
        assert not (poses_file.parent / "plot.png").exists()

    def test_a_broken_file(self, tmp_path, capsys):
        (tmp_path / "poses.jsonl").write_text("{]\n")
        assert main(["plot", str(tmp_path / "poses.jsonl"), "--out", str(tmp_path / "a.png")]) == 1
        assert "line 1" in capsys.readouterr().err
        assert not (tmp_path / "a.png").exists()
