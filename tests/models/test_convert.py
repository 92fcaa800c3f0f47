"""Finding out what a checkpoint is, in Python and on the command line."""

import hashlib
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("safetensors", reason="needs the [train] extra")

from wholepose.cli.main import main  # noqa: E402
from wholepose.errors import ConfigError, WeightsError  # noqa: E402
from wholepose.models import convert  # noqa: E402
from wholepose.models.checkpoints import load_model, save_model  # noqa: E402
from wholepose.models.convert import CardOptions, convert_checkpoint, open_checkpoint  # noqa: E402
from wholepose.weights import RegistryEntry  # noqa: E402

ARCH = "hrnet_w24_slim"


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model(ARCH, 17)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """As MMPose 0.x writes it, with the input size in its name."""
    path = tmp_path_factory.mktemp("checkpoints") / "hrnet_coco_128x96_dark.pth"
    state = {name.replace("head.", "keypoint_head."): value for name, value in model.state_dict().items()}
    torch.save({"meta": {"epoch": 210}, "state_dict": state}, path)
    return path


def test_what_the_file_tells(checkpoint, model):
    opened = open_checkpoint(checkpoint)
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    card = opened.card
    assert (card.arch, card.skeleton, card.input_size, card.decode_kernel) == (ARCH, "coco17", (128, 96), 11)
    assert (card.source, card.source_sha256, card.licence) == (checkpoint.name, sha256, "unknown")
    assert card.name == f"{ARCH}_128x96.coco17_{sha256[:8]}"
    assert opened.layout == "mmpose0"
    assert len(opened.guesses) == 2
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in opened.model.state_dict().items())


def test_what_the_caller_says_comes_first(checkpoint):
    said = CardOptions(ARCH, "coco17", (64, 32), 13, "mmpose0", "MIT", "mine", "A test.")
    opened = open_checkpoint(checkpoint, said)
    assert all(getattr(opened.card, key) == value for key, value in vars(said).items())
    assert not opened.guesses


def test_files_of_the_registry_are_known_by_their_hash(checkpoint, monkeypatch):
    entry = RegistryEntry(
        name="published",
        file_name="published.pth",
        urls=("https://example.org/published.pth",),
        sha256=hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:8],
        arch=ARCH,
        skeleton="coco17",
        input_size=(256, 192),
        decode_kernel=15,
        licence="MIT",
        source="a paper",
        training_data=("COCO",),
    )
    monkeypatch.setattr(convert, "REGISTRY", {entry.name: entry})
    opened = open_checkpoint(checkpoint)
    assert (opened.card.name, opened.card.input_size, opened.card.decode_kernel) == ("published", (256, 192), 15)
    assert not opened.guesses


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (CardOptions(arch="hrnet_w48"), WeightsError, "holds hrnet_w24_slim, not hrnet_w48"),
        (CardOptions(arch="resnet50"), ConfigError, "no architecture 'resnet50'"),
        (CardOptions(skeleton="halpe136"), WeightsError, "gives 17 keypoints, but the skeleton halpe136 has 136"),
        (CardOptions(skeleton="cat"), ConfigError, "unknown skeleton 'cat'"),
        (CardOptions(input_size=(100, 100)), ConfigError, "multiples of 32"),
        (CardOptions(input_size=(0, 0)), ConfigError, "multiples of 32, not 0x0"),
        (CardOptions(input_size=(385, 289)), ConfigError, "multiples of 32, not 385x289"),
        (CardOptions(decode_kernel=4), ConfigError, "decode_kernel must be an odd number"),
        (CardOptions(licence=""), ConfigError, "licence must not be empty"),
    ],
)
def test_contradictions(checkpoint, tmp_path, options, error, match):
    with pytest.raises(error, match=match) as caught:
        convert_checkpoint(checkpoint, tmp_path / "x.safetensors", options)
    assert "resnet50" in match or "cat" in match or checkpoint.name in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_found_out(checkpoint, model, filled_model, tmp_path):
    path = tmp_path / "epoch_3.pth"
    path.write_bytes(checkpoint.read_bytes())
    with pytest.raises(ConfigError, match="--input-size"):
        open_checkpoint(path)
    torch.save(filled_model("hrnet_w16_slim", 5).state_dict(), path)
    with pytest.raises(ConfigError, match="no skeleton of so many"):
        open_checkpoint(path)
    torch.save({name: value for name, value in model.state_dict().items() if "head" not in name}, path)
    with pytest.raises(WeightsError, match="final_layer"):
        open_checkpoint(path)


def test_a_card_is_kept(checkpoint, tmp_path):
    first = convert_checkpoint(checkpoint, tmp_path / "a.safetensors", CardOptions(licence="MIT", name="mine"))
    second = convert_checkpoint(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert second.card == first.card
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_metrics_stay_with_what_was_measured(checkpoint, tmp_path):
    first = convert_checkpoint(checkpoint, tmp_path / "a.safetensors")
    measured = replace(first.card, metrics={"ap": 0.5}, intervals={"ap": (0.4, 0.6)}, measured_by="a command")
    save_model(tmp_path / "b.safetensors", first.model, measured)
    assert open_checkpoint(tmp_path / "b.safetensors", CardOptions(input_size=(128, 96))).card == measured
    for changed in (CardOptions(input_size=(256, 192)), CardOptions(decode_kernel=17), CardOptions(protocol="mmpose0")):
        card = open_checkpoint(tmp_path / "b.safetensors", changed).card
        assert (card.metrics, card.intervals, card.measured_by) == ({}, {}, "")


class TestCommand:
    def test_converts(self, checkpoint, tmp_path, capsys):
        out = tmp_path / "x.safetensors"
        words = ["convert", str(checkpoint), "--arch", ARCH, "--decode-kernel", "17", "--licence", "MIT"]
        assert main([*words, "--out", str(out)]) == 0
        printed = capsys.readouterr()
        assert "3.3 M parameters" in printed.out
        assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() in printed.out
        assert "assumed input size 128x96" in printed.err
        _, card = load_model(out)
        assert (card.decode_kernel, card.licence) == (17, "MIT")

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["--arch", "hrnet_w48"], 1, "holds hrnet_w24_slim"),
            (["--input-size", "big"], 2, "HEIGHTxWIDTH"),
            (["--out", "x.pth"], 2, ".safetensors"),
        ],
    )
    def test_says_what_is_wrong(self, checkpoint, tmp_path, capsys, monkeypatch, words, code, message):
        monkeypatch.chdir(tmp_path)
        assert main(["convert", str(checkpoint), "--out", "x.safetensors", *words]) == code
        assert message in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
