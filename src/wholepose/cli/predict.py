"""Finds the people in pictures and videos and writes 136 keypoints for each.

INPUT is a picture, a video, a folder, or a pattern such as 'photos/**/*.jpg'; also a camera, 'webcam:0', or an rtsp://
or http:// address. With --out, each picture gets a JSON document there and each video a file with a document a line,
named after it; without, the documents go to stdout, one a line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Collection, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from wholepose.cli.predict_inputs import People, Picture, name_pictures
from wholepose.cli.predict_outputs import (
    PICTURES_FILE,
    CocoWriter,
    DocumentWriter,
    Drawer,
    FormatWriter,
    Writer,
    coco_image_ids,
)
from wholepose.cli.predict_ray import add_options, check_engine, out_folder, predict_on_ray
from wholepose.cli.predict_report import Report
from wholepose.cli.words import FrameRange, box, count, fraction, frame_range
from wholepose.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from wholepose.cli.predict_video_outputs import Clip
    from wholepose.cli.window import Window
    from wholepose.estimator import PoseEstimator

_EPILOG = """\
examples:
  wholepose predict photo.jpg dance.mp4 --out out/ --draw
  wholepose predict dance.mp4 --out out/ --format csv --frames 100:400 --smooth
  wholepose predict dance.mp4 --out out/ --draw --smooth-ahead
  wholepose predict webcam:0 --out out/ --draw --black --trails 30
  wholepose predict webcam:0 --show --smooth
  wholepose predict portrait.jpg --whole-image --out out/
  wholepose predict photos/ more/*.png --out out/ --flip-test --zoom
  wholepose predict photo.jpg --box 40,10,300,620 --box=-20,0,110,400 > people.json
  wholepose predict s3://bucket/videos --engine ray --address auto --out s3://bucket/poses
  wholepose predict val2017/ --boxes detections.json --annotations halpe_val_v1.json --format coco --out out/

where results go (--out DIR):
  DIR/photo.json          the document of photo.jpg; DIR/photo_poses.jpg its drawing (--draw)
  DIR/a/photo.json        where a/photo.jpg and b/photo.jpg are both predicted
  DIR/photo.jpg.json      where photo.jpg and photo.png are both predicted
  DIR/clip.jsonl          the documents of clip.mp4, one frame a line; DIR/clip_poses.mp4 its drawing, with sound
  DIR/clip.csv            with --format csv, one file a video; pictures are together in DIR/pictures.csv
  DIR/clip_coco.json      likewise with coco, and _alphapose.json, _angles.csv; openpose makes a folder
  DIR/coco_results.json   pictures with --format coco, all people; DIR/coco_images.json says which id is which file

exit codes: 0 all done, 1 some inputs failed (each listed), 2 bad usage, 130 or 143 interrupted
"""

_FORMATS = ("json", "coco", "openpose", "alphapose", "csv", "parquet", "npz", "trc", "angles")
_DETECT_EVERY = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose predict``."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="picture, video, folder, pattern, camera or address; several are fine",
    )
    results = parser.add_argument_group("results")
    results.add_argument("--out", type=out_folder, metavar="DIR", help="folder for the results; made if missing")
    results.add_argument("--format", choices=_FORMATS, default="json", help="default: json")
    results.add_argument("--uncertainty", action="store_true", help="write each keypoint's covariance too (json)")
    results.add_argument("--draw", action="store_true", help="also write pictures and videos with the poses drawn")
    results.add_argument("--black", action="store_true", help="draw on black instead of on the picture")
    results.add_argument(
        "--trails", type=count, metavar="N", help="draw the paths of hands, feet and nose over the last N frames"
    )
    results.add_argument(
        "--draw-threshold", type=fraction, metavar="S", help="draw keypoints that score above this; default: 0.3"
    )
    people = parser.add_argument_group("who is in the picture (one of these)")
    people.add_argument(
        "--detector", metavar="SPEC", help="'default', a YOLOX or RTMDet .onnx, or 'rtdetr[:FOLDER]'; default: default"
    )
    people.add_argument("--boxes", type=Path, metavar="FILE", help="boxes from COCO results (.json) or a table (.csv)")
    people.add_argument(
        "--box", action="append", type=box, metavar="X1,Y1,X2,Y2", help="a box in pixels, in every picture; repeatable"
    )
    people.add_argument("--whole-image", action="store_true", help="one person fills each picture, as in a portrait")
    people.add_argument("--threshold", type=fraction, metavar="S", help="smallest box score of a person")
    people.add_argument("--max-people", type=count, metavar="N", help="keep the N best boxes of a picture")
    people.add_argument(
        "--annotations", type=Path, metavar="FILE", help="COCO JSON that says which image id is which file"
    )
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--frames", type=frame_range, metavar="A:B[:STEP]", help="only frames A to before B, every STEP-th; from 0"
    )
    videos.add_argument(
        "--detect-every", type=count, metavar="N", help="look for people in every N-th frame; default: 5"
    )
    videos.add_argument("--no-track", action="store_true", help="do not number people from frame to frame")
    smoothing = videos.add_mutually_exclusive_group()
    smoothing.add_argument("--smooth", action="store_true", help="calm the motion while the video runs (One-Euro)")
    smoothing.add_argument(
        "--smooth-ahead",
        action="store_true",
        help="calm it looking ahead too: calmer, without lag, short gaps filled (Savitzky-Golay); files only",
    )
    videos.add_argument(
        "--show", action="store_true", help="show videos in a window, drawn; without --out write nothing"
    )
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="default", metavar="NAME|PATH", help="default: the one inside the package")
    model.add_argument("--flip-test", action="store_true", help="average with the mirrored picture: slower, better")
    model.add_argument("--zoom", action="store_true", help="look at faces and hands again, enlarged: slower, better")
    model.add_argument("--batch-size", type=count, default=16, metavar="N", help="most people at once; default: 16")
    model.add_argument("--runtime", choices=("auto", "onnx", "openvino", "torch"), default="auto", help="default: auto")
    model.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: fp32")
    model.add_argument("--threads", type=count, metavar="N", help="CPU threads; default: all cores")
    model.add_argument("--offline", action="store_true", help="never download weights")
    add_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no messages but failures")


def run(options: argparse.Namespace) -> int:
    """Predicts all inputs.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0 if every input was predicted, else 1.

    Raises:
        ConfigError: Options contradict each other.
        WholeposeError: The weights or a file of boxes cannot be used.
        OSError: Results cannot be written.
    """
    started = time.perf_counter()
    check_engine(options)
    _check_options(options)
    if options.engine == "ray":
        return predict_on_ray(options, lambda: _weights(options.model, offline=True if options.offline else None))
    from wholepose.images import IMAGE_SUFFIXES, find_images, printable_path
    from wholepose.videos import VIDEO_SUFFIXES, is_stream

    streams = [name for name in options.inputs if is_stream(name) and not _is_picture_address(name)]
    # In folders .ts is left out: most files of that name are programs.
    found = find_images(
        [name for name in options.inputs if name not in streams], suffixes=IMAGE_SUFFIXES | VIDEO_SUFFIXES - {".ts"}
    )
    report = Report(
        quiet=options.quiet, failures=[f"{printable_path(name)}: {reason}" for name, reason in found.problems]
    )
    for folder in found.empty_folders:
        report.say(f"{printable_path(folder)}: no pictures in this folder, nor videos")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    try:
        if found.paths or streams:
            _predict(options, found.paths, streams, report)
    finally:  # also when interrupted
        report.list_failures()
    where = f" -> {options.out}/" if options.out is not None else ""
    report.say(f"{report.summary()}, {time.perf_counter() - started:.1f} s{where}")
    return 1 if report.failures else 0


def _is_picture_address(name: str) -> bool:
    """Whether an address names a picture, which is not fetched."""
    from wholepose.images import IMAGE_SUFFIXES

    return Path(name.partition("?")[0]).suffix.lower() in IMAGE_SUFFIXES


def _check_options(options: argparse.Namespace) -> None:
    """Raises ConfigError where options contradict each other."""
    from wholepose.videos import is_stream

    sources = {
        "--detector": options.detector is not None,
        "--boxes": options.boxes is not None,
        "--box": options.box is not None,
        "--whole-image": options.whole_image,
    }
    chosen = [name for name, given in sources.items() if given]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} both say who is in the picture; give one of them")
    if chosen and chosen[0] in ("--box", "--whole-image"):
        for name in ("threshold", "max_people"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name.replace('_', '-')} chooses among detections, and {chosen[0]} makes none")
    if options.annotations is not None and options.format != "coco" and options.boxes is None:
        raise ConfigError("--annotations goes with --boxes FILE.json or with --format coco")
    if options.out is None:
        for name, given in (("--draw", options.draw), (f"--format {options.format}", options.format != "json")):
            if given:
                raise ConfigError(f"{name} writes files: say where with --out DIR")
    elif isinstance(options.out, Path) and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a file, and a folder is needed")
    for name in ("draw_threshold", "trails", "black"):
        if getattr(options, name) not in (None, False) and not (options.draw or options.show):
            raise ConfigError(f"--{name.replace('_', '-')} goes with --draw")
    if options.uncertainty and options.format != "json":
        raise ConfigError(f"--uncertainty goes with --format json: {options.format} has no place for it, or always it")
    if options.no_track and (options.smooth or options.smooth_ahead):
        raise ConfigError("smoothing needs to know who is who, and --no-track forbids it")
    if options.smooth_ahead and (options.show or any(map(is_stream, options.inputs))):
        raise ConfigError(
            "--smooth-ahead waits for what comes next, cameras and windows do not; --smooth goes with them"
        )
    if options.format == "trc" and options.no_track:
        raise ConfigError("--format trc writes a file a person, and --no-track leaves open who is who")
    if options.trails is not None and options.no_track:
        raise ConfigError("--trails needs to know who is who, and --no-track forbids it")
    if options.detect_every is not None and chosen and chosen[0] in ("--box", "--whole-image"):
        raise ConfigError(f"--detect-every says when to look for people, and {chosen[0]} says where they are")


def _predict(options: argparse.Namespace, paths: Sequence[Path], streams: Sequence[str], report: Report) -> None:
    """Loads what the options ask for and sends all inputs through it, in order; streams, which have no end, last."""
    from wholepose.cli.predict_pictures import predict_pictures
    from wholepose.cli.predict_video_outputs import Clip
    from wholepose.cli.predict_videos import stream_clips
    from wholepose.cli.window import Window
    from wholepose.estimator import PoseEstimator
    from wholepose.videos import is_video_file

    videos_too = bool(streams) or any(map(is_video_file, paths))
    shared = [PICTURES_FILE] if videos_too and options.format not in ("json", "coco") else []  # one file of pictures
    inputs = name_pictures(paths, shared)
    video_names = {each.result_name for each in inputs if is_video_file(each.path)}
    pictures = [each for each in inputs if each.result_name not in video_names]
    if options.boxes is not None and (video_names or streams):
        raise ConfigError("--boxes: the file lists boxes by picture, which frames of a video are not; use --detector")
    files = (options.boxes, options.annotations, options.model, options.detector)
    occupied = {os.path.realpath(path) for path in (*paths, *filter(None, files))}
    with contextlib.ExitStack() as stack:
        window = stack.enter_context(Window()) if options.show else None
        people = _people(options)
        estimator = PoseEstimator.from_pretrained(
            _weights(options.model, offline=True if options.offline else None),
            detector=None,
            runtime=options.runtime,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            batch_size=options.batch_size,
            zoom=options.zoom,
        )
        drawer = None
        if options.draw:
            drawer = Drawer(options.out, occupied, _draw_threshold(options), black=options.black)
        writer = _picture_writer(options, pictures, occupied, estimator, stack) if pictures else None
        for are_videos, group in groupby(inputs, key=lambda each: each.result_name in video_names):
            if are_videos:
                clips = [Clip(each.path, each.result_name, each.image_name) for each in group]
                _predict_clips(options, clips, estimator, people, report, occupied, window)
            elif writer is not None:
                predict_pictures(
                    list(group),
                    estimator,
                    people,
                    writer,
                    drawer,
                    report,
                    flip_test=options.flip_test,
                    quiet=options.quiet,
                )
        if writer is not None:
            writer.finish()
        clips = stream_clips(streams, [*shared, *(each.result_name for each in inputs)])
        _predict_clips(options, clips, estimator, people, report, occupied, window)


def _predict_clips(
    options: argparse.Namespace,
    clips: Sequence[Clip],
    estimator: PoseEstimator,
    people: People,
    report: Report,
    occupied: Collection[str],
    window: Window | None,
) -> None:
    from wholepose.cli.predict_video_outputs import Drawing, VideoOptions
    from wholepose.cli.predict_videos import predict_videos

    video_options = VideoOptions(
        out=options.out,
        format=options.format,
        uncertainty=options.uncertainty,
        frames=options.frames or FrameRange(None, None, 1),
        detect_every=options.detect_every or _DETECT_EVERY,
        track=not options.no_track,
        smooth="ahead" if options.smooth_ahead else "running" if options.smooth else "no",
        flip_test=options.flip_test,
        drawing=Drawing(_draw_threshold(options), options.black, options.trails or 0),
        film=options.draw,
        window=window,
        quiet=options.quiet,
    )
    predict_videos(clips, estimator, people, video_options, report, occupied)


def _picture_writer(
    options: argparse.Namespace,
    pictures: Sequence[Picture],
    occupied: Collection[str],
    estimator: PoseEstimator,
    stack: contextlib.ExitStack,
) -> Writer:
    """What takes the results of pictures; the stack throws away what is incomplete."""
    model = estimator.runtime.card.name
    if options.format == "json":
        return DocumentWriter(options.out, occupied, model, uncertainty=options.uncertainty)
    if options.format == "coco":
        return CocoWriter(options.out, occupied, coco_image_ids(pictures, options.annotations))
    return stack.enter_context(FormatWriter(options.out, occupied, options.format, estimator.skeleton, model))


def _draw_threshold(options: argparse.Namespace) -> float:
    return 0.3 if options.draw_threshold is None else float(options.draw_threshold)


def _weights(name: str, *, offline: bool | None) -> Path:
    """Path of the model's file; a name that means nothing is bad usage, weights that cannot be had are a failure."""
    from wholepose.weights import embedded_models, find_entry, resolve_model

    try:
        return resolve_model(name, offline=offline)
    except WeightsError as error:
        if name in embedded_models() or find_entry(name) is not None or Path(name).exists():
            raise
        raise ConfigError(f"--model: {error}") from error


def _people(options: argparse.Namespace) -> People:
    """Where the boxes come from, by the options."""
    from wholepose.boxes import check_person_boxes
    from wholepose.detectors import load_detector

    if options.whole_image:
        return People(whole_image=True)
    if options.box is not None:
        try:
            return People(boxes=check_person_boxes(options.box))
        except ValueError as error:
            raise ConfigError(f"--box: {error}") from error
    detector = load_detector(
        options.boxes or options.detector or "default",
        threshold=options.threshold,
        images=options.annotations if options.boxes is not None else None,
        device=options.device,
        threads=options.threads,
        offline=True if options.offline else None,
    )
    return People(detector, max_people=options.max_people)
