"""The API: the same answers as the library and the command line, in every format; and errors that say what is wrong."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wholepose.draw import draw_poses
from wholepose.formats.openpose import openpose_document
from wholepose.images import load_image
from wholepose.outputs import poses_document, rounded_coco_result
from wholepose.skeletons import HALPE136

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
BOX = "60,40,140,150"


@pytest.fixture(scope="module")
def framing(servers):
    from wholepose.serving import framing

    return framing


@pytest.mark.parametrize("name", ["astronaut.jpg", "people_1.jpg"])
def test_same_as_the_command_line(live_server, servers, name):
    """FAULTS 11: to the last digit, the document that `wholepose predict` writes."""
    data = (EXAMPLES / name).read_bytes()
    answer = live_server.pose(data, f"?name={name}&uncertainty=true", servers.JPEG)
    printed = subprocess.run(
        [sys.executable, "-m", "wholepose", "predict", name, "--uncertainty"], cwd=EXAMPLES, capture_output=True
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == printed.stdout
    assert answer.json()["people"]


def test_formats_are_the_library_s(live_server, servers):
    """FAULTS 11: every format holds what the library gives for the same file."""
    path = EXAMPLES / "people_2.jpg"
    data, image = path.read_bytes(), load_image(path)
    poses = live_server.service.estimator.predict(image)
    assert len(poses) > 0

    def get(query):
        return live_server.pose(data, query, servers.JPEG)

    assert get("").json() == poses_document(poses, image="", size=image.shape[:2], model=get("").json()["model"])
    assert get("?format=coco&image_id=7").json() == [rounded_coco_result(one) for one in poses.to_coco(7)]
    assert get("?format=openpose").json() == openpose_document(poses)
    drawn = get("?format=png")
    assert drawn.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(load_image(drawn.content), draw_poses(image, poses))
    flipped = live_server.service.estimator.predict(image, flip_test=True)
    assert get("?flip_test=true&format=coco").json() == [rounded_coco_result(one) for one in flipped.to_coco(0)]


def test_a_model_without_a_flip_test_says_so(servers, tiny_models, blob_png, tmp_path):
    from wholepose.estimator import PoseEstimator
    from wholepose.runtimes.onnx import OnnxRuntime

    model = tiny_models.save_centroid_model(tmp_path / "plain.onnx", flip_test=None)
    with servers.running(PoseEstimator(OnnxRuntime(model, threads=1))) as live:
        assert live.pose(blob_png, "?whole_image=true").status_code == 200
        refused = live.pose(blob_png, "?whole_image=true&flip_test=true")
    assert refused.status_code == 400
    assert "flip_test" in refused.json()["error"]["message"]


def test_boxes(tiny_server, blob_png):
    document = tiny_server.pose(blob_png, f"?boxes={BOX};-20,0.5,190,199.5&uncertainty=true").json()
    assert (document["height"], document["width"]) == (200, 180)
    assert [person["box"] for person in document["people"]] == [[60, 40, 140, 150], [-20, 0.5, 190, 199.5]]
    np.testing.assert_allclose(document["people"][0]["keypoints"][0][:2], [100, 90], atol=0.2)
    assert len(document["people"][0]["covariances"]) == 136
    assert tiny_server.pose(blob_png, "?boxes=").json()["people"] == []
    whole = tiny_server.pose(blob_png, "?whole_image=true").json()
    assert whole["people"][0]["box"] == [0, 0, 180, 200]


def test_octet_stream_and_head(tiny_server, blob_png):
    answer = tiny_server.pose(blob_png, "?whole_image=true", {"Content-Type": "Application/Octet-Stream"})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    head = tiny_server.client.head("/healthz")
    assert (head.status_code, head.content) == (200, b"")


def test_batch(tiny_server, tiny_models, framing, blob_png, servers):
    """Pictures of a request are answered in order; a bad one leaves the others alone."""
    pictures = [blob_png, b"no picture", blob_png[:-20], b"", blob_png]
    answer = tiny_server.client.post(
        "/v1/poses:batch?whole_image=true",
        content=framing.join_pictures(pictures),
        headers={"Content-Type": framing.MEDIA_TYPE},
    )
    results = answer.json()["results"]
    assert answer.status_code == 200
    single = tiny_server.pose(blob_png, "?whole_image=true").json()
    assert results[0] == results[4] == single
    assert [result["error"]["code"] for result in results[1:4]] == ["invalid_image"] * 3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"\0\0", "invalid_request"),
        (b"\0\0\0\x05abcd", "invalid_request"),
        (b"\xff\xff\xff\xffabcd", "body_too_large"),
        (b"\0\0\0\0" * 17, "body_too_large"),
    ],
)
def test_malformed_batch(tiny_server, framing, servers, body, code):
    answer = tiny_server.client.post(
        "/v1/poses:batch?whole_image=true", content=body, headers={"Content-Type": framing.MEDIA_TYPE}
    )
    assert servers.code_of(answer) == code


def test_models(live_server):
    document = live_server.client.get("/v1/models").json()
    (model,) = document["models"]
    skeleton = model["skeleton"]
    assert model["name"] == live_server.service.estimator.runtime.card.name
    assert model["input_size"] == list(live_server.service.estimator.runtime.card.input_size)
    assert skeleton["keypoint_names"] == list(HALPE136.keypoint_names)
    assert [(edge["start"], edge["end"]) for edge in skeleton["edges"]] == [(e.start, e.end) for e in HALPE136.edges]
    assert sorted(index for part in skeleton["parts"].values() for index in part) == list(range(136))
    assert document["limits"]["max_body_bytes"] == live_server.settings.max_body_bytes


def test_probes_and_metrics(tiny_server, blob_png):
    assert tiny_server.client.get("/healthz").json() == {"status": "ok"}
    assert tiny_server.client.get("/readyz").json() == {"status": "ready"}
    before = tiny_server.metric('wholepose_stage_seconds_count{stage="predict"}')
    answered = tiny_server.metric('wholepose_requests_total{route="/v1/poses",status="200"}')
    assert tiny_server.pose(blob_png, "?whole_image=true").status_code == 200
    assert tiny_server.metric('wholepose_stage_seconds_count{stage="predict"}') == before + 1
    assert tiny_server.metric('wholepose_requests_total{route="/v1/poses",status="200"}') == answered + 1
    assert tiny_server.metric("wholepose_in_flight") == 0
    assert tiny_server.metric("wholepose_held_bytes") == 0


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("format=xml", "format must be one of json, coco, openpose, png, not 'xml'"),
        ("flip_test=yes", "flip_test must be true or false"),
        ("colour=red", "there is no parameter 'colour'"),
        ("format=json&format=json", "format is given 2 times"),
        (f"boxes={BOX}&whole_image=true", "give one of them"),
        ("boxes=1,2,3", "boxes must be x1,y1,x2,y2"),
        ("boxes=1,2,3,4;", "boxes must be x1,y1,x2,y2"),
        ("boxes=1_0,2,3,4", "boxes must be x1,y1,x2,y2"),
        ("boxes=nan,0,1,1", "finite"),
        ("boxes=10,0,5,9", "box"),
        ("boxes=0,0,1e9,9", "reaches beyond"),
        ("boxes=" + ";".join(["0,0,9,9"] * 101), "at most 100"),
        ("format=coco&uncertainty=true", "uncertainty goes with format=json"),
        ("format=png&name=a", "name goes with format=json"),
        ("image_id=3", "image_id goes with format=coco"),
        ("format=coco&image_id=-1", "image_id must be a whole number"),
        ("format=coco&image_id=99999999999999999", "image_id must be a whole number"),
        ("name=" + "a" * 201, "name has 201 characters"),
        ("name=a%00b", "cannot be printed"),
        ("name=a%0ab", "cannot be printed"),
        ("name=a%e2%80%aeb", "cannot be printed"),
        ("", "no person detector"),
    ],
)
def test_bad_parameters(tiny_server, blob_png, query, words):
    answer = tiny_server.pose(blob_png, f"?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_parameter"
    assert words in answer.json()["error"]["message"]


def test_bad_addresses(tiny_server, servers):
    for path in (
        "/v1",
        "/v1/poses/",
        "/static/",
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/a%00b",
    ):
        answer = tiny_server.client.get(path)
        assert (answer.status_code, servers.code_of(answer)) == (404, "not_found"), path
    answer = tiny_server.client.get("/v1/poses")
    assert (answer.status_code, servers.code_of(answer)) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


def test_bad_types(tiny_server, blob_png, servers):
    for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data; boundary=x"}):
        answer = tiny_server.pose(blob_png, "?whole_image=true", headers)
        assert (answer.status_code, servers.code_of(answer)) == (415, "unsupported_media_type")


def test_name_is_only_a_word(tiny_server, blob_png, servers):
    """FAULTS 49: whatever a name looks like, it is repeated and nothing is read."""
    # Then two emoji: one that is newer than Python, one of two that are joined.
    emoji = ("\U0001fa77", "\U0001f469\u200d\U0001f680")
    for name in ("../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.jpg", *emoji, "a\\b"):
        answer = tiny_server.client.post(
            "/v1/poses", params={"whole_image": "true", "name": name}, content=blob_png, headers=servers.PNG
        )
        assert answer.json()["image"] == name
        assert json.loads(answer.content)["people"]


def test_server_s_own_failure(servers, tiny_estimator, blob_png, caplog):
    """FAULTS 52: what fails inside is told to the log, and not to the client; the next request is answered."""
    from wholepose.errors import WeightsError
    from wholepose.estimator import PoseEstimator

    class Failing(PoseEstimator):
        def predict_batch(self, images, *arguments, **options):
            if images[0].shape[0] == 64:
                raise WeightsError("/secret/place/model.onnx: the model fails")
            return super().predict_batch(images, *arguments, **options)

    small = io.BytesIO()
    Image.new("RGB", (64, 64)).save(small, "PNG")
    with servers.running(Failing(tiny_estimator.runtime), decoders=1) as live:
        answer = live.pose(small.getvalue(), "?whole_image=true")
        assert (answer.status_code, servers.code_of(answer)) == (500, "internal_error")
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        assert "/secret/place/model.onnx" in caplog.text
        assert live.pose(blob_png, "?whole_image=true").status_code == 200
        assert live.metric('wholepose_requests_total{route="/v1/poses",status="500"}') == 1
        assert live.metric("wholepose_in_flight") == 0


def test_a_file_of_boxes_is_no_detector_of_a_server(tiny_estimator, tmp_path):
    """It knows pictures by their names, and a server's have none."""
    from wholepose.detectors import load_detector
    from wholepose.errors import ConfigError
    from wholepose.estimator import PoseEstimator
    from wholepose.serving.app import create_app
    from wholepose.serving.settings import ServerSettings

    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2\na.png,0,0,9,9\n")
    estimator = PoseEstimator(tiny_estimator.runtime, load_detector(tmp_path / "boxes.csv"))
    with pytest.raises(ConfigError, match="a file of boxes goes with `wholepose predict`"):
        create_app(estimator, ServerSettings())
