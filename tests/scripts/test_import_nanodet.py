"""NanoDet's weights become those of the person detector (scripts/import_nanodet.py)."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'wholepose[train]'")

from wholepose.models.detector import STEPS, DetectorNet  # noqa: E402

CLASSES = 80


def written(folder, convolutions):
    """A TensorFlow.js graph of these (filters, bias), its nodes in no order."""
    nodes, entries, data = [], [], b""
    for number, (filters, bias) in enumerate(convolutions):
        name = f"part/convolution_{number}" if number else "part/convolution"
        nodes.insert(0, {"name": name, "op": "Conv2D", "input": [f"before_{number}", f"split_{number}"]})
        nodes.append({"name": f"part/Add_{number}", "op": "Add", "input": [name, f"bias_{number}"]})
        for key, values in ((f"split_{number}", filters.transpose(2, 3, 1, 0)), (f"bias_{number}", bias[:, None])):
            entries.append({"name": key, "shape": list(values.shape), "dtype": "float32"})
            data += np.ascontiguousarray(values, dtype=np.float32).tobytes()
    (folder / "nanodet.bin").write_bytes(data)
    manifest = [{"paths": ["nanodet.bin"], "weights": entries}]
    path = folder / "nanodet.json"
    path.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}))
    return path


def theirs(net):
    """The network's convolutions as NanoDet has them: BGR, and scores of 80 classes before the distances."""
    rng = np.random.default_rng(0)
    for module in (module for module in net.modules() if isinstance(module, torch.nn.Conv2d)):
        filters, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
        if module.in_channels == 3:
            filters = filters[:, ::-1]
        if len(filters) == 1 + 4 * STEPS:
            others = rng.normal(size=(CLASSES - 1, *filters.shape[1:]))
            filters = np.concatenate([filters[:1], others, filters[1:]])
            bias = np.concatenate([bias[:1], rng.normal(size=CLASSES - 1), bias[1:]])
        yield filters, bias


def test_people_are_kept_and_colours_are_red_first(tmp_path):
    from import_nanodet import person_detector
    from tfjs_graph import Graph

    torch.manual_seed(0)
    wanted = DetectorNet().eval()
    got = person_detector(Graph(written(tmp_path, list(theirs(wanted)))))
    image = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        for ours, other in zip(got(image), wanted(image), strict=True):
            torch.testing.assert_close(ours, other)


def test_another_network_is_refused(tmp_path):
    from import_nanodet import person_detector
    from tfjs_graph import Graph

    some = list(theirs(DetectorNet()))[:-1]
    with pytest.raises(SystemExit, match="not the convolutions of NanoDet-g"):
        person_detector(Graph(written(tmp_path, some)))
