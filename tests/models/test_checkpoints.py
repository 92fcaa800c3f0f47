"""Reading and writing weights."""

import os
import pickle
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs the [train] extra")

from wholepose.errors import WeightsError  # noqa: E402
from wholepose.models.checkpoints import (  # noqa: E402
    infer_config,
    load_checkpoint,
    load_model,
    read_state_dict,
    save_model,
)
from wholepose.models.posenet import ARCHITECTURES, build_model  # noqa: E402
from wholepose.weights.card import ModelCard  # noqa: E402

ARCH = "hrnet_w16_slim"
CARD = ModelCard(name="tiny", arch=ARCH, skeleton="coco17", input_size=(64, 64), decode_kernel=11, licence="CC0-1.0")


@pytest.fixture(scope="module")
def model(filled_model):
    return filled_model(ARCH, 17)


@pytest.fixture
def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def check_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def check_refused(path, match, **options):
    """The file is refused, and the model stays as it was."""
    model = build_model(ARCH, 17)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=match) as caught:
        load_checkpoint(model, path, **options)
    assert path.name in str(caught.value)
    check_equal(model.state_dict(), before)


class TestLayouts:
    @pytest.mark.parametrize("nesting", [(), ("state_dict",), ("model",), ("state_dict", "model")])
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_nesting_and_format(self, state, tmp_path, nesting, suffix):
        path = tmp_path / f"x.{suffix}"
        if suffix == "safetensors":
            safetensors_torch.save_file({f"module.{name}": value for name, value in state.items()}, path)
        else:
            content = state
            for key in nesting:
                content = {key: content, "epoch": 3, "optimizer": {"lr": 0.1}}
            torch.save(content, path)
        found, info = read_state_dict(path)
        check_equal(found, state)
        assert info.layout == "mmpose1"

    def test_layouts_are_told_apart(self, state, tmp_path):
        torch.save(
            {name.replace("head.", "keypoint_head."): value for name, value in state.items()}, tmp_path / "0.pth"
        )
        torch.save({name.split(".", 1)[1]: value for name, value in state.items()}, tmp_path / "h.pth")
        assert read_state_dict(tmp_path / "0.pth")[1].layout == "mmpose0"
        assert read_state_dict(tmp_path / "h.pth")[1].layout == "hrnet"
        check_equal(read_state_dict(tmp_path / "h.pth")[0], state)

    def test_old_format_of_pytorch(self, state, tmp_path):
        torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        check_equal(read_state_dict(tmp_path / "old.pth")[0], state)

    def test_half_precision(self, state, tmp_path):
        torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pth")
        model = build_model(ARCH, 17)
        load_checkpoint(model, tmp_path / "half.pth")
        assert model.head.final_layer.weight.dtype == torch.float32

    def test_before_batches_were_counted(self, state, tmp_path):
        """The original HRNet release was trained with PyTorch 0.4.0."""
        older = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        torch.save(older, tmp_path / "older.pth")
        assert not load_checkpoint(build_model(ARCH, 17), tmp_path / "older.pth").missing

    @pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
    def test_numpy_numbers_beside_the_weights(self, state, tmp_path, module):
        """Files written under NumPy 1 and 2 name its functions differently; both load under either."""
        content = {"state_dict": state, "best": np.float64(0.7), "lr": np.float32(0.1), "losses": np.arange(5.0)}
        torch.save(content, tmp_path / "x.pth")
        rename_in_pickle(tmp_path / "x.pth", b"numpy._core.multiarray", f"{module}.multiarray".encode())
        rename_in_pickle(tmp_path / "x.pth", b"numpy.core.multiarray", f"{module}.multiarray".encode())
        check_equal(read_state_dict(tmp_path / "x.pth")[0], state)


def rename_in_pickle(path, old, new):
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            renamed = data.replace(b"c" + old + b"\n", b"c" + new + b"\n") if name.endswith(".pkl") else data
            archive.writestr(name, renamed)


class TestFineTuning:
    def test_another_number_of_keypoints(self, state, tmp_path):
        torch.save({"state_dict": state}, tmp_path / "coco.pth")
        target = build_model(ARCH, 136)
        with pytest.raises(WeightsError, match=r"head\.final_layer\.weight .*\(17, 16, 1, 1\).*\(136, 16, 1, 1\)"):
            load_checkpoint(target, tmp_path / "coco.pth")
        report = load_checkpoint(target, tmp_path / "coco.pth", strict=False)
        assert set(report.skipped) == {"head.final_layer.weight", "head.final_layer.bias"}
        assert not report.missing
        assert not report.unexpected
        assert "head.final_layer.weight" in report.summary()
        assert torch.equal(target.backbone.conv1.weight, state["backbone.conv1.weight"])

    def test_imagenet_classifier(self, state, tmp_path):
        """HRNet's and timm's ImageNet weights: the backbone without prefix, and a classifier beside it."""
        content = {name.removeprefix("backbone."): value for name, value in state.items() if "backbone" in name}
        extra = {
            "incre_modules.0.0.conv1.weight": torch.zeros(32, 16, 1, 1),
            "final_layer.0.weight": torch.zeros(2048, 1024, 1, 1),
            "stage4.0.fuse_layers.1.0.0.0.weight": torch.zeros(32, 16, 3, 3),
            "classifier.bias": torch.zeros(1000),
        }
        torch.save(content | extra, tmp_path / "imagenet.pth")
        report = load_checkpoint(build_model(ARCH, 17), tmp_path / "imagenet.pth", strict=False)
        assert set(report.missing) == {"head.final_layer.weight", "head.final_layer.bias"}
        assert len(report.unexpected) == len(extra)
        assert len(report.loaded) == len(content)

    def test_nothing_fits(self, tmp_path):
        torch.save({"backbone.conv1.weight": torch.zeros(7, 7)}, tmp_path / "x.pth")
        check_refused(tmp_path / "x.pth", "nothing in it fits", strict=False)

    def test_another_architecture_is_named(self, tmp_path, filled_model):
        torch.save(filled_model("hrnet_w24_slim", 17).state_dict(), tmp_path / "w24.pth")
        check_refused(tmp_path / "w24.pth", "The file is hrnet_w24_slim")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_is_told_from_the_weights(arch):
    with torch.device("meta"):
        assert infer_config(build_model(arch, 3).state_dict()) == ARCHITECTURES[arch]


class Runs:
    """Makes a file when unpickled in the usual, unsafe way."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


class TestCode:
    """FAULTS 24: code inside .pth, .pt and .npy never runs; WeightsError, and no second try."""

    @pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors", "npy"])
    @pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
    @pytest.mark.parametrize("place", ["whole", "beside", "inside"])
    def test_never_runs(self, state, tmp_path, suffix, form, place):
        flag = tmp_path / "ran"
        bomb = Runs(os.mkdir, str(flag))
        content = {
            "whole": bomb,
            "beside": {"state_dict": state, "meta": bomb},
            "inside": {"state_dict": state | {"backbone.extra": bomb}},
        }[place]
        path = tmp_path / f"x.{suffix}"
        if form == "pickle":
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        check_refused(path, "x." + suffix)
        assert not flag.exists()
        with path.open("rb") as file:
            pickle.load(file) if form == "pickle" else torch.load(file, weights_only=False)
        assert flag.exists()  # so the file was dangerous

    @pytest.mark.parametrize("call", [(eval, "1"), (exec, "1"), (getattr, "", "join"), (print, "x"), (open, "x", "w")])
    def test_what_was_found_is_named(self, state, tmp_path, call):
        torch.save({"state_dict": state, "x": Runs(*call)}, tmp_path / "x.pth")
        check_refused(tmp_path / "x.pth", call[0].__name__)

    def test_pickled_array(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([Runs(os.mkdir, str(tmp_path / "ran"))], dtype=object), allow_pickle=True)
        check_refused(tmp_path / "x.npy", "NumPy array")
        assert not (tmp_path / "ran").exists()

    def test_environment_does_not_switch_it_off(self, state, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        torch.save({"state_dict": state, "x": Runs(os.mkdir, str(tmp_path / "ran"))}, tmp_path / "x.pth")
        check_refused(tmp_path / "x.pth", "mkdir")
        assert not (tmp_path / "ran").exists()


class TestMalformed:
    """FAULTS 25, and its like for .pth: keys are named, the model is unchanged."""

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    @pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.3, 0.7, 0.999])
    def test_cut_short(self, model, state, tmp_path, suffix, share):
        path = tmp_path / f"x.{suffix}"
        save_model(path, model, CARD) if suffix == "safetensors" else torch.save(state, path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        check_refused(path, "damaged|cut short|empty|no weight file")

    @pytest.mark.parametrize("length", [0, 1, 10**6, 10**8, 2**63, 2**64 - 1])
    def test_header_of_a_false_length(self, model, tmp_path, length):
        path = tmp_path / "x.safetensors"
        save_model(path, model, CARD)
        path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
        check_refused(path, "damaged|no weight file")

    def test_header_of_false_offsets(self, tmp_path):
        path = tmp_path / "x.safetensors"
        header = b'{"backbone.conv1.weight":{"dtype":"F32","shape":[64,3,3,3],"data_offsets":[0,999999]}}'
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(100))
        check_refused(path, "damaged")

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_wrong_shape_missing_unexpected_and_nan(self, state, tmp_path, suffix):
        save = torch.save if suffix == "pth" else safetensors_torch.save_file
        key = "backbone.stage2.0.branches.0.0.bn1.bias"
        for change, match in (
            ({key: torch.zeros(5)}, r"bn1\.bias \(shape \(5,\)"),
            ({key: None}, f"not in the file: {key}"),
            ({"backbone.extra": torch.zeros(5)}, r"not in the model: backbone\.extra"),
            ({key: torch.full((16,), torch.nan)}, f"{key}.* NaN"),
            ({key: torch.full((16,), torch.inf)}, f"{key}.* NaN or infinity"),
        ):
            path = tmp_path / f"x.{suffix}"
            save({name: value for name, value in (state | change).items() if value is not None}, path)
            check_refused(path, match)

    def test_two_tensors_of_one_name(self, state, tmp_path):
        torch.save(state | {"module.backbone.conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "x.pth")
        check_refused(tmp_path / "x.pth", "two tensors are both 'backbone.conv1.weight'")

    def test_not_a_tensor(self, state, tmp_path):
        torch.save(state | {"backbone.conv1.weight": "text"}, tmp_path / "x.pth")
        check_refused(tmp_path / "x.pth", r"'backbone\.conv1\.weight' is not a plain tensor")

    def test_other_files(self, tmp_path):
        for content, match in (
            (b"<!DOCTYPE html><html></html>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (b"", "empty"),
            (b"\x80\x02garbage", "damaged"),
            (b"\xff" * 100, "no weight file"),
        ):
            (tmp_path / "x.pth").write_bytes(content)
            check_refused(tmp_path / "x.pth", match)
        check_refused(tmp_path / "missing.pth", "cannot be read")
        check_refused(tmp_path, "cannot be read")

    def test_other_pickles(self, state, tmp_path):
        itself = {}
        itself["state_dict"] = itself
        for content, match in (
            ([1, 2], "a list"),
            ({}, "nothing"),
            ({"a": 1}, "no weights of an HRNet"),
            ({"fc.weight": torch.zeros(3)}, "no weights of an HRNet"),
            (itself, "no weights of an HRNet"),
        ):
            torch.save(content, tmp_path / "x.pth")
            check_refused(tmp_path / "x.pth", match)

    def test_compressed_archive(self, state, tmp_path):
        torch.save(state, tmp_path / "x.pth")
        with zipfile.ZipFile(tmp_path / "x.pth") as archive:
            entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        check_refused(tmp_path / "x.pth", "compressed")


class TestOwnFiles:
    def test_round_trip(self, model, tmp_path):
        save_model(tmp_path / "x.safetensors", model, CARD)
        loaded, card = load_model(tmp_path / "x.safetensors")
        assert card == CARD
        assert not loaded.training
        check_equal(loaded.state_dict(), model.state_dict())
        assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]

    def test_half_a_file_keeps_all_but_the_filters_exactly(self, model, tmp_path):
        save_model(tmp_path / "whole.safetensors", model, CARD)
        save_model(tmp_path / "half.safetensors", model, CARD, half=True)
        sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
        assert sizes[0] < 0.6 * sizes[1]
        loaded, card = load_model(tmp_path / "half.safetensors")
        assert card == CARD
        for name, tensor in loaded.state_dict().items():
            expected = model.state_dict()[name]
            assert tensor.dtype == expected.dtype
            torch.testing.assert_close(tensor, expected.half().float() if expected.ndim == 4 else expected)

    def test_same_bytes_each_time(self, model, tmp_path):
        for number in range(8):
            save_model(tmp_path / f"{number}.safetensors", model, CARD)
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1

    def test_card_of_another_model(self, model, tmp_path):
        for change in ({"arch": "hrnet_w48"}, {"skeleton": "halpe136"}):
            with pytest.raises(ValueError, match="the card says"):
                save_model(tmp_path / "x.safetensors", model, replace(CARD, **change))
        for change in ({"arch": "resnet"}, {"skeleton": "cat"}, {"input_size": (100, 100)}, {"stride": 8}):
            with pytest.raises(WeightsError, match=next(iter(change)).replace("_", ".")):
                save_model(tmp_path / "x.safetensors", model, replace(CARD, **change))
        assert not list(tmp_path.iterdir())

    def test_without_card(self, state, tmp_path):
        safetensors_torch.save_file(state, tmp_path / "x.safetensors")
        with pytest.raises(WeightsError, match="model card"):
            load_model(tmp_path / "x.safetensors")


def test_saved_weights_are_for_all_who_may_read_the_folder(tmp_path):
    """And a folder that is missing is the OSError that the docstring names."""
    model = build_model("hrnet_w16_slim", 136)
    card = ModelCard(name="tiny", arch="hrnet_w16_slim", skeleton="halpe136", input_size=(64, 64))
    save_model(tmp_path / "a.safetensors", model, card)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode
    with pytest.raises(OSError, match="nowhere"):
        save_model(tmp_path / "nowhere" / "a.safetensors", model, card)
