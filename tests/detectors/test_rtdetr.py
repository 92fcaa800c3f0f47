"""RT-DETR through transformers, with a tiny network of random weights."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from wholepose.detectors import load_detector
from wholepose.errors import ConfigError, WeightsError

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None,
    reason="needs the extra: pip install 'wholepose[transformers]'",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        d_model=16,
        num_queries=20,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        id2label={0: "bicycle", 1: "person", 2: "car"},
        label2id={"bicycle": 0, "person": 1, "car": 2},
    )
    model = RTDetrForObjectDetection(config).eval()
    path = tmp_path_factory.mktemp("rtdetr")
    model.save_pretrained(path)
    return path


@needs_transformers
def test_boxes_are_those_of_the_class_person_in_image_pixels(folder: Path) -> None:
    import torch
    from transformers import RTDetrForObjectDetection

    image = np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    detector = load_detector(f"rtdetr:{folder}", threshold=0.0, device="cpu")
    (found,) = detector.detect([image])
    with torch.inference_mode():
        model = RTDetrForObjectDetection.from_pretrained(folder).eval()
        output = model(pixel_values=torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    scores = output.logits[0, :, 1].sigmoid().numpy()
    best = int(scores.argmax())
    x, y, width, height = (output.pred_boxes[0, best] * 640).tolist()
    expected = np.clip([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 0, 640)
    np.testing.assert_allclose(found.boxes[0], expected, atol=1e-2)
    np.testing.assert_allclose(found.scores[0], scores[best], atol=1e-5)
    wide = detector.detect([image, np.repeat(image, 2, axis=1)[:, :, :]])
    np.testing.assert_array_equal(wide[0].boxes, found.boxes)
    assert (wide[1].boxes[:, 2] <= 1280).all()
    assert len(load_detector(f"rtdetr:{folder}", threshold=1.0).detect([image])[0]) == 0


@needs_transformers
@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (33_000, 2)])
def test_pictures_of_any_size(folder: Path, size: tuple[int, int]) -> None:
    """FAULTS 5."""
    (found,) = load_detector(f"rtdetr:{folder}", threshold=0.0).detect([np.zeros((*size, 3), dtype=np.uint8)])
    assert np.isfinite(found.boxes).all()


@needs_transformers
def test_folders_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="transformers cannot load"):
        load_detector(f"rtdetr:{tmp_path / 'missing'}")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"transformers cannot load.*model\.safetensors"):
        load_detector(f"rtdetr:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": {"0": "cat"}, "label2id": {"cat": 0}}))
    with pytest.raises(ConfigError, match="none of its 1 classes is called 'person'"):
        load_detector(f"rtdetr:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="is a 'bert' model"):
        load_detector(f"rtdetr:{tmp_path}")
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        load_detector(f"rtdetr:{folder}", device="tpu")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'wholepose\[transformers\]'"):
        load_detector("rtdetr")
