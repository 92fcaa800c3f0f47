"""`wholepose train`: what is asked for, what is said, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from wholepose.cli.main import main

torch = pytest.importorskip("torch", reason="needs the [train] extra")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_list_and_describe(capsys):
    assert main(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "coco_hrnet_w48_384x288"
    assert "17 keypoints of COCO" in lines[1]
    assert main(["train", "halpe_hrnet_w48_384x288_dark_plus", "--describe", "--set", "halpe:epochs=7"]) == 0
    out = capsys.readouterr().out
    assert "Command:" in out
    assert out.index("stage coco:") < out.index("stage halpe:")
    assert '"epochs": 7' in out


def test_help_names_exit_codes_and_loads_no_pytorch():
    code = (
        "import sys; from wholepose.cli.main import main; main(['train', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "exit codes" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a recipe"),
        (["hrnet"], "there is no recipe 'hrnet'; there are coco_hrnet_w48_384x288, "),
        (["small_w24_slim_128x96", "--data", "{set}"], "--run DIR"),
        (["small_w24_slim_128x96", "--run", "{run}"], "--data FOLDER, --data FILE.json ..., or --data synth:20000"),
        (["small_w24_slim_128x96", "--data", "{run}/no.json", "--run", "{run}"], "no such annotation file"),
        (["small_w24_slim_128x96", "--data", "{set}", "*x", "--run", "{run}"], "a weight is a number"),
        (["small_w24_slim_128x96", "--data", "*2", "{set}", "--run", "{run}"], "a weight follows the file"),
        (["small_w24_slim_128x96", "--data", "{set}:/nowhere", "--run", "{run}"], "/nowhere: no such folder"),
        (["small_w24_slim_128x96", "--data", "{set}", "--run", "{run}", "--set", "lr=1"], "'lr' is not one of"),
        (
            ["small_w24_slim_128x96", "--data", "{set}", "--run", "{run}", "--device", "tpu"],
            "device 'tpu' cannot be used",
        ),
        (["small_w24_slim_128x96", "--data", "{set}", "--run", "{run}"], "an epoch has 2 samples, less than one step"),
        (
            [
                "small_w24_slim_128x96",
                "--data",
                "{set}",
                "--run",
                "{run}",
                "--set",
                "batch_size=3",
                "--set",
                "accumulate=2",
            ],
            "cannot be split",
        ),
        (
            ["small_w24_slim_128x96", "--data", "{set}", "--run", "{run}", "--set", "model.arch=vit"],
            "no architecture 'vit'",
        ),
        (
            ["halpe_hrnet_w48_384x288_dark_plus", "--data", "{set}", "--run", "{run}"],
            "the stages coco, halpe, each on its own",
        ),
        (["small_w24_slim_128x96", "--data", "synth:none", "--run", "{run}"], "such as synth:20000"),
        (["small_w24_slim_128x96", "--data", "synth:5", "synth:6", "--run", "{run}"], "can be asked for once"),
        (["small_w24_slim_128x96", "--data", "synth:5", "*3", "--run", "{run}"], "a weight follows the file"),
        (
            ["coco_hrnet_w48_384x288", "--data", "synth:5", "--run", "{run}", "--set", "batch_size=1"],
            "have the 136 keypoints of halpe136",
        ),
    ],
)
def test_bad_usage_exits_with_2(words, message, tmp_path, draw_tiny_set, capsys):
    names = {"set": str(draw_tiny_set), "run": str(tmp_path / "run")}
    assert (
        main(
            [
                "train",
                *(word.format(**names) for word in words),
                *(["--device", "cpu"] if "--run" in words and "--device" not in words else []),
            ]
        )
        == 2
    )
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def draw_tiny_set(tmp_path_factory):
    """Two black pictures with a person each."""
    import cv2
    import numpy as np

    from wholepose.skeletons import COCO17

    folder = tmp_path_factory.mktemp("set")
    people, images = [], []
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((64, 64, 3), 40 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64})
        points = [value for k in range(17) for value in (10 + 2 * k, 50 - 2 * k, 2)]
        people.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [5, 5, 50, 50],
                "area": 1300,
                "iscrowd": 0,
                "num_keypoints": 17,
                "keypoints": points,
            }
        )
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
    path = folder / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return path


def _words(annotations, run, *settings, epochs=2):
    chosen = [
        "model.arch=hrnet_w16_slim",
        "model.input_size=32,32",
        "batch_size=2",
        f"epochs={epochs}",
        "data.workers=0",
    ]
    chosen += ["evaluate_every=1", "log_every=1", "flip_test=false", *settings]
    return [
        *(
            "train",
            "small_w24_slim_128x96",
            "--data",
            f"{annotations}:{annotations.parent}*1.0",
            "--val",
            str(annotations),
        ),
        *("--run", str(run), "--device", "cpu", *(word for setting in chosen for word in ("--set", setting))),
    ]


def test_trains_says_where_and_says_when_it_is_done_already(tmp_path, draw_tiny_set, capsys):
    words = _words(draw_tiny_set, tmp_path / "run")
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"finished, AP 0.0000 in validation: {tmp_path / 'run' / 'best.safetensors'}" in said.err
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *(
            "best.safetensors",
            "last.safetensors",
            "checkpoints",
            "config.json",
            "log.jsonl",
            "result.json",
            "tensorboard",
        )
    }
    assert main(words) == 0
    assert "finished before" in capsys.readouterr().err
    assert main([*words, "--set", "seed=1"]) == 2  # FAULTS 42
    assert "seed: 0 -> 1" in capsys.readouterr().err


def test_weights_of_sets(tmp_path, draw_tiny_set, capsys):
    from wholepose.training.config import from_json

    words = ["train", "small_w24_slim_128x96", "--describe", "--data"]
    assert (
        main([*words, str(draw_tiny_set), "*0.5", f"{draw_tiny_set}:{draw_tiny_set.parent}", f"{draw_tiny_set}*3"]) == 0
    )
    text = capsys.readouterr().out
    sets = from_json(text[text.index("\n{") :], "describe").data.train
    assert [(part.weight, part.images) for part in sets] == [(0.5, ""), (1.0, str(draw_tiny_set.parent)), (3.0, "")]
    assert {part.annotations for part in sets} == {str(draw_tiny_set)}


def test_missing_official_files(tmp_path, capsys):
    assert (
        main(
            [
                "train",
                "coco_hrnet_w48_384x288",
                "--data",
                str(tmp_path),
                "--run",
                str(tmp_path / "run"),
                "--device",
                "cpu",
            ]
        )
        == 1
    )
    assert "person_keypoints_train2017.json: no such file; `wholepose data prepare`" in capsys.readouterr().err


def test_sigterm_saves_within_30_seconds(tmp_path, draw_tiny_set, capsys):
    """FAULTS 38: exit code 143 and a checkpoint of that moment."""
    run = tmp_path / "run"
    words = _words(draw_tiny_set, run, "data.workers=1", "evaluate_every=100000", epochs=100_000)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "wholepose", *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        deadline = time.monotonic() + 240
        while not (run / "log.jsonl").exists() or (run / "log.jsonl").stat().st_size < 300:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143, errors
    assert time.monotonic() - began < 30
    assert "stopped by SIGTERM" in errors
    assert "Traceback" not in errors
    steps = len((run / "log.jsonl").read_text().splitlines())
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == f"step_{steps:09d}.safetensors"
