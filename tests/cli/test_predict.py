"""`wholepose predict` on pictures drawn here: results, names, boxes, failures, exit codes."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from wholepose.cli.main import main
from wholepose.cli.predict_inputs import name_pictures, read_ahead
from wholepose.errors import ImageError
from wholepose.estimator import PoseEstimator
from wholepose.images import load_image, save_image
from wholepose.outputs import read_poses
from wholepose.runtimes.onnx import OnnxRuntime
from wholepose.weights import embedded_models

BOX = "60,40,140,150"


@pytest.fixture(scope="module")
def model(tiny_models, tmp_path_factory):
    return tiny_models.save_heatmap_model(tmp_path_factory.mktemp("model") / "tiny.onnx", name="tiny")


@pytest.fixture
def photos(tiny_models, tmp_path, monkeypatch):
    """A folder with three pictures; it is the working folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b.png", "c.jpg")):
        image = tiny_models.blob_image((200, 180 + index), (100 + index, 90 - index), 9)
        save_image(folder / name, image, quality=100)
    monkeypatch.chdir(tmp_path)
    return folder


def names_in(folder):
    """Paths of all files under a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture
def predict(model, capsys):
    """Runs the command in this process; gives exit code, stdout and stderr."""

    def run(*words):
        capsys.readouterr()
        code = main(["predict", "--model", str(model), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_one_document_a_picture(predict, photos):
    code, out, err = predict("photos", "--box", BOX, "--out", "out")
    assert code == 0
    assert out == ""
    assert names_in("out") == ["a.json", "b.json", "c.json"]
    for index, name in enumerate(("a", "b", "c")):
        poses, rest = read_poses(f"out/{name}.json")
        np.testing.assert_allclose(poses.keypoints[0, 0], [100 + index, 90 - index], atol=0.2)
        np.testing.assert_allclose(poses.boxes, [[60, 40, 140, 150]])
        assert rest["model"] == "tiny"
        assert (rest["height"], rest["width"]) == (200, 180 + index)
        assert rest["image"].startswith(f"photos/{name}.")
    assert "covariances" not in json.loads((photos.parent / "out/a.json").read_text())["people"][0]
    assert err.splitlines()[-1].startswith("3 pictures, 3 people, ")
    assert err.splitlines()[-1].endswith(" s -> out/")


def test_library_and_command_line_agree(predict, photos, model):
    """FAULTS 11: the same file gives the same answer, to the rounding of the document."""
    assert predict("photos/c.jpg", "--box", BOX, "--box=-20,-10,190,199.5", "--uncertainty", "--out", "out")[0] == 0
    poses, _ = read_poses("out/c.json")
    estimator = PoseEstimator(OnnxRuntime(model))
    expected = estimator.predict(load_image("photos/c.jpg"), [[60, 40, 140, 150], [-20, -10, 190, 199.5]])
    np.testing.assert_allclose(poses.keypoints, expected.keypoints, atol=1e-3)
    np.testing.assert_allclose(poses.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(poses.covariances, expected.covariances, atol=1e-3)
    np.testing.assert_allclose(poses.boxes, expected.boxes)


def test_lines_on_stdout(predict, photos):
    code, out, err = predict("photos/b.png", "photos/a.png", "--box", BOX)
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    assert [document["image"] for document in documents] == ["photos/b.png", "photos/a.png"]
    assert len(documents[0]["people"][0]["keypoints"]) == 136
    assert "2 pictures, 2 people" in err
    assert "->" not in err


def test_order_and_batches(predict, photos):
    """More pictures than one batch holds, read ahead: everyone gets their own result, in order."""
    for index in range(20):
        shutil.copy(photos / "a.png", photos / f"n{index:02}.png")
    code, out, _ = predict("photos/n*.png", "photos/b.png", "--box", BOX, "--batch-size", 3)
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    assert [document["image"] for document in documents] == [
        *(f"photos/n{i:02}.png" for i in range(20)),
        "photos/b.png",
    ]
    np.testing.assert_allclose(documents[-1]["people"][0]["keypoints"][0][:2], [101, 89], atol=0.2)


def test_whole_image(predict, photos):
    code, out, _ = predict("photos/a.png", "--whole-image")
    assert code == 0
    assert json.loads(out)["people"][0]["box"] == [0, 0, 180, 200]


def test_drawings(predict, photos):
    code, _, _ = predict("photos", "--whole-image", "--out", "out", "--draw")
    assert code == 0
    assert names_in("out") == sorted(["a.json", "a_poses.png", "b.json", "b_poses.png", "c.json", "c_poses.jpg"])
    drawn, original = load_image("out/a_poses.png"), load_image("photos/a.png")
    assert drawn.shape == original.shape
    assert (drawn != original).any()


def test_drawings_never_replace_an_input(predict, photos):
    """Results may go beside the pictures; a drawing is refused where a picture to read has its name."""
    shutil.copy(photos / "a.png", photos / "a_poses.png")
    before = (photos / "a_poses.png").read_bytes()
    code, _, err = predict("photos", "--whole-image", "--out", "photos", "--draw")
    assert code == 1
    assert (photos / "a_poses.png").read_bytes() == before
    assert "photos/a.png: its drawing would replace the input photos/a_poses.png" in err
    assert (photos / "b_poses.png").is_file()


def test_names_that_collide(predict, photos):
    """photo.jpg beside photo.png, and one name in two folders: nothing is overwritten."""
    for folder in ("one", "two/deep"):
        Path(folder).mkdir(parents=True)
        shutil.copy(photos / "a.png", f"{folder}/photo.png")
    shutil.copy(photos / "c.jpg", "one/photo.jpg")
    shutil.copy(photos / "c.jpg", "one/alone.jpg")
    code, _, _ = predict("one", "two/deep/photo.png", "--box", BOX, "--out", "out", "--draw")
    assert code == 0
    found = names_in("out")
    documents = [name for name in found if name.endswith(".json")]
    assert documents == [
        "alone.json",
        "one/photo.jpg.json",
        "one/photo.png.json",
        "two/deep/photo.json",
    ]
    assert len(found) == 8
    images = [json.loads(Path("out", name).read_text())["image"] for name in documents]
    assert images == ["one/alone.jpg", "one/photo.jpg", "one/photo.png", "two/deep/photo.png"]


def test_result_names_are_always_different():
    names = ["a/x.jpg", "a/x.png", "a/X.PNG", "b/x.jpg", "x.jpg.png", "c/y.jpg", "Y.gif", "../z.png", "q/../z.png"]
    names += ["k/x.jpg.gif", "a/x_2.png"]
    pictures = name_pictures([Path(name) for name in names])
    results = [picture.result_name for picture in pictures]
    assert len({name.casefold() for name in results}) == len(names)
    assert not any(".." in Path(name).parts or Path(name).is_absolute() for name in results)
    assert [picture.number for picture in pictures] == list(range(1, len(names) + 1))
    assert [picture.result_name for picture in name_pictures([Path("/d/photo.jpg"), Path("clip.png")])] == [
        "photo",
        "clip",
    ]


def test_boxes_file(predict, photos):
    rows = "file,x1,y1,x2,y2,score\na.png,60,40,140,150,0.9\na.png,50,40,140,150,0.4\nb.png,61,40,140,150,0.8\n"
    (photos.parent / "boxes.csv").write_text(rows)
    code, out, err = predict("photos", "--boxes", "boxes.csv")
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    assert [len(document["people"]) for document in documents] == [2, 1, 0]
    assert [person["box_score"] for person in documents[0]["people"]] == pytest.approx([0.9, 0.4])
    assert "photos/c.jpg: nobody found" in err
    assert "--whole-image" in err
    assert "3 pictures, 3 people" in err
    _, out, _ = predict("photos", "--boxes", "boxes.csv", "--threshold", "0.5")
    assert [len(json.loads(line)["people"]) for line in out.splitlines()] == [1, 1, 0]
    _, out, _ = predict("photos/a.png", "--boxes", "boxes.csv", "--max-people", "1")
    assert [person["box_score"] for person in json.loads(out)["people"]] == pytest.approx([0.9])


def test_a_file_of_boxes_is_never_replaced(predict, photos):
    rows = [{"image_id": 7, "category_id": 1, "bbox": [60, 40, 80, 110], "score": 0.5}]
    for name in ("a.json", "coco_results.json"):
        (photos / name).write_text(json.dumps(rows))
    (photos / "gt.json").write_text(json.dumps({"images": [{"id": 7, "file_name": "a.png"}]}))
    words = ("--annotations", "photos/gt.json", "--out", "photos")
    code, _, err = predict("photos/a.png", "photos/b.png", "--boxes", "photos/a.json", *words)
    assert code == 1
    assert "its result would replace the input photos/a.json" in err
    assert (photos / "b.json").exists()
    code, _, err = predict("photos/a.png", "--boxes", "photos/coco_results.json", "--format", "coco", *words)
    assert code == 2
    assert "would replace photos/coco_results.json" in err
    for name in ("a.json", "coco_results.json"):
        assert json.loads((photos / name).read_text()) == rows


def test_what_fails_one_picture_leaves_the_others(predict, photos):
    """Boxes that could be of either of two pictures; people whom a format cannot tell apart."""
    head, box = "file,x1,y1,x2,y2\n", ",60,40,140,150\n"
    (photos / "boxes.csv").write_text(f"{head}x/a.png{box}y/a.png{box}b.png{box}")
    shutil.copy(photos / "a.png", photos.parent / "a.png")
    code, _, err = predict("a.png", "photos/b.png", "--boxes", "photos/boxes.csv", "--out", "out")
    assert (code, names_in("out")) == (1, ["b.json"])
    assert "'a.png' could be any of" in err
    (photos / "two.csv").write_text(f"{head}a.png{box}a.png,50,30,140,150\nb.png{box}")
    words = ("--boxes", "photos/two.csv", "--format", "trc", "--out", "trc")
    code, _, err = predict("photos/a.png", "photos/b.png", *words)
    assert (code, names_in("trc")) == (1, ["pictures_person0.trc"])
    assert "photos/a.png: TRC holds one person a file" in err


def test_boxes_by_image_id(predict, photos):
    """COCO results know images by number; the annotation file says which file that is, and names the results' ids."""
    rows = [{"image_id": 7, "category_id": 1, "bbox": [60, 40, 80, 110], "score": 0.5}]
    (photos.parent / "boxes.json").write_text(json.dumps(rows))
    images = [{"id": 7, "file_name": "b.png"}, {"id": 9, "file_name": "photos/a.png"}]
    (photos.parent / "gt.json").write_text(json.dumps({"images": images}))
    words = ("--boxes", "boxes.json", "--annotations", "gt.json", "--format", "coco", "--out", "out")
    code, out, _ = predict("photos/a.png", "photos/b.png", *words)
    assert code == 0
    assert out == ""
    results = json.loads((photos.parent / "out/coco_results.json").read_text())
    assert [result["image_id"] for result in results] == [7]
    assert len(results[0]["keypoints"]) == 3 * 136
    listed = json.loads((photos.parent / "out/coco_images.json").read_text())["images"]
    assert [(entry["id"], entry["file_name"]) for entry in listed] == [(9, "photos/a.png"), (7, "photos/b.png")]
    code, _, err = predict("photos", *words)
    assert code == 1
    assert "photos/c.jpg: is not among the images of the annotation file" in err


def test_coco_ids_without_annotations(predict, photos):
    """Numbers in the file names, as COCO has them, else running numbers."""
    assert predict("photos", "--box", BOX, "--format", "coco", "--out", "out")[0] == 0
    results = json.loads((photos.parent / "out/coco_results.json").read_text())
    assert [result["image_id"] for result in results] == [1, 2, 3]
    for index, name in enumerate(("000000000785.png", "COCO_val2014_000000000042.png")):
        (photos / "ab"[index]).with_suffix(".png").rename(photos / name)
    assert predict("photos/*.png", "--box", BOX, "--format", "coco", "--out", "out")[0] == 0
    results = json.loads((photos.parent / "out/coco_results.json").read_text())
    assert [result["image_id"] for result in results] == [785, 42]


def test_bad_boxes_of_one_picture(predict, photos):
    """FAULTS 13: a box that cannot be used is named with its picture; the other pictures are done."""
    rows = "file,x1,y1,x2,y2\na.png,-1e9,0,1e9,100\nb.png,60,40,140,150\n"
    (photos.parent / "boxes.csv").write_text(rows)
    code, out, err = predict("photos/a.png", "photos/b.png", "--boxes", "boxes.csv")
    assert code == 1
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["photos/b.png"]
    assert "photos/a.png: box 0 reaches beyond" in err


@pytest.mark.skipif(sys.platform == "win32", reason="file names and pipes of POSIX")
def test_bad_inputs_are_listed_and_the_rest_done(predict, photos):
    """FAULTS 12: odd names, pipes, loops, folders without right, nothing at all: reported, the rest done, exit 1."""
    whole = (photos / "c.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "page.jpg").write_bytes(b"<html><body>no picture</body></html>")
    (photos / "empty.png").write_bytes(b"")
    (photos / "\N{GRINNING FACE} smile.png").write_bytes((photos / "a.png").read_bytes())
    try:
        (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "a.png").read_bytes())
        odd_names = 1
    except OSError:  # a file system that takes UTF-8 only
        odd_names = 0
    os.mkfifo(photos / "pipe.png")
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "dangling.png").symlink_to("gone.png")
    code, _, err = predict("photos", "absent.jpg", "nothing*.png", "--box", BOX, "--out", "out")
    assert code == 1
    lines = err.splitlines()
    start = lines.index("8 inputs failed:")
    failures = lines[start + 1 : start + 9]
    for name in ("absent.jpg", "nothing*.png", "cut.jpg", "page.jpg", "empty.png", "pipe.png", "loop.png", "dangling"):
        assert sum(name in line for line in failures) == 1, name
    assert all(len(line.split(": ", 1)) == 2 for line in failures)
    assert "an HTML page" in err
    assert "Traceback" not in err
    assert f"{4 + odd_names} pictures, {4 + odd_names} people" in lines[-1]
    done = [name for name in names_in("out") if name.endswith(".json")]
    assert len(done) == 4 + odd_names
    for name in done:
        document = json.loads((photos.parent / "out" / name).read_text())
        document["image"].encode()  # no half characters
        assert len(document["people"]) == 1


def test_picture_deleted_meanwhile(photos):
    """FAULTS 12: a picture that was listed and is gone when its turn comes is an error of its own, in its place."""
    pictures = name_pictures([photos / "a.png", photos / "b.png", photos / "c.jpg"])
    (photos / "b.png").unlink()
    results = list(read_ahead(pictures))
    assert [picture for picture, _ in results] == pictures
    assert isinstance(results[1][1], ImageError)
    assert "b.png: does not exist" in str(results[1][1])
    assert results[2][1].shape == (200, 182, 3)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_picture(predict, photos):
    """FAULTS 12: no right to read."""
    (photos / "b.png").chmod(0)
    code, _, err = predict("photos", "--box", BOX, "--out", "out")
    assert code == 1
    assert "b.png: may not be read" in err


def test_empty_folder(predict, photos):
    """FAULTS 14: nothing to do is not a failure, and is said."""
    Path("nothing").mkdir()
    code, out, err = predict("nothing", "--box", BOX, "--out", "out")
    assert code == 0
    assert out == ""
    assert "nothing: no pictures in this folder" in err
    assert "0 pictures, 0 people" in err


def test_quiet(predict, photos):
    (photos / "d.png").write_bytes(b"no")
    code, _, err = predict("photos", "--box", BOX, "--out", "out", "--quiet")
    assert code == 1
    assert err.splitlines()[0] == "1 input failed:"
    assert len(err.splitlines()) == 2


def test_animation_warns_once(predict, photos):
    from PIL import Image

    frames = [Image.new("RGB", (90, 120), (index * 60, 0, 0)) for index in range(3)]
    frames[0].save("move.gif", save_all=True, append_images=frames[1:])
    code, _, err = predict("move.gif", "--whole-image", "--out", "out")
    assert code == 0
    assert sum("wholepose: warning:" in line for line in err.splitlines()) == 1
    assert ".py" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--boxes", "b.csv", "--whole-image"], "--boxes and --whole-image"),
        (["--box", BOX, "--detector", "default"], "--detector and --box"),
        (["--whole-image", "--threshold", "0.5"], "--threshold"),
        (["--box", BOX, "--max-people", "3"], "--max-people"),
        (["--draw"], "--out"),
        (["--format", "coco"], "--out"),
        (["--out", "photos/a.png"], "is a file"),
        (["--draw-threshold", "0.5"], "--draw"),
        (["--annotations", "x.json"], "--annotations"),
        (["--uncertainty", "--format", "coco", "--out", "out"], "--uncertainty"),
        (["--box", "1,2,3"], "X1,Y1,X2,Y2"),
        (["--box", "5,5,1,1"], "reversed"),
        (["--box", "nan,0,1,1"], "not finite"),
        (["--batch-size", "0"], "whole number"),
        (["--threshold", "1.5"], "from 0 to 1"),
        (["--threads", "two"], "whole number"),
        (["--detector", "detectron"], "unknown detector"),
        (["--box", BOX, "--model", "no_such_model"], "no_such_model"),
        (["--box", BOX, "--model", "weights.pth"], "weights.pth"),
        (["--box", BOX, "--precision", "fp16"], "fp16"),
        (["--box", BOX, "--device", "mps"], "mps"),
        (["--box", BOX, "--runtime", "torch"], "torch"),
        (["--flip"], "--flip"),
    ],
)
def test_bad_usage(predict, photos, words, message):
    code, out, err = predict("photos/a.png", *words)
    assert code == 2, err
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not Path("out").exists() or names_in("out") == []


def test_no_input(predict):
    code, _, err = predict()
    assert code == 2
    assert "INPUT" in err


def test_bad_files_that_the_options_name(predict, photos):
    """Files of boxes and weights that cannot be used: exit 1, and the file is named."""
    (photos.parent / "boxes.json").write_text("[{]")
    (photos.parent / "junk.onnx").write_bytes(b"junk")
    code, _, err = predict("photos", "--boxes", "boxes.json")
    assert code == 1
    assert "boxes.json" in err
    code, _, err = predict("photos", "--box", BOX, "--model", "junk.onnx")
    assert code == 1
    assert "junk.onnx" in err


def test_example_with_the_embedded_weights(capsys, monkeypatch, tmp_path):
    """What the README shows: the picture that comes along, the models inside the package, nothing downloaded."""
    missing = {"default", "detector"} - set(embedded_models())
    if missing:
        pytest.skip(f"this checkout has no embedded weights for {', '.join(missing)}")
    monkeypatch.setenv("WHOLEPOSE_HOME", str(tmp_path / "home"))
    example = Path(__file__).resolve().parents[2] / "examples" / "astronaut.jpg"
    for words in ([], ["--whole-image", "--flip-test"]):
        assert main(["predict", str(example), "--out", str(tmp_path / "out"), "--draw", "--offline", *words]) == 0
        assert capsys.readouterr().out == ""
        poses, rest = read_poses(tmp_path / "out" / "astronaut.json")
        assert poses.keypoints.shape == (len(poses), 136, 2)
        assert rest["skeleton"] == "halpe136"
        assert load_image(tmp_path / "out" / "astronaut_poses.jpg").shape == load_image(example).shape
    assert len(poses) == 1
    assert not (tmp_path / "home").exists()
