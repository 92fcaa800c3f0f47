"""The table of known weights: complete, consistent, and honest about what is known of a hash."""

import re
from pathlib import Path

import pytest

from wholepose.skeletons import get_skeleton
from wholepose.weights import REGISTRY, find_entry, read_card, sha256_of

OWN = "large"


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {OWN}))
def test_entries_are_complete(name: str) -> None:
    entry = REGISTRY[name]
    assert entry.name == name
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    assert entry.urls
    assert all(url.startswith("https://") and url.endswith("/" + entry.file_name) for url in entry.urls)
    assert entry.arch in ("hrnet_w32", "hrnet_w48")
    assert name.startswith(f"{entry.arch}_{entry.input_size[0]}x{entry.input_size[1]}.")
    # MMPose decodes with 17 cells where it trains with sigma 3 (384 x 288) and 11 where with sigma 2 (256 x 192).
    assert entry.decode_kernel == {(384, 288): 17, (256, 192): 11}[entry.input_size]
    assert f"{entry.input_size[0]}x{entry.input_size[1]}" in entry.file_name
    assert get_skeleton(entry.skeleton).num_keypoints in (17, 133, 136)
    assert "only these digits are known" in entry.expected
    assert find_entry(name) is entry
    assert find_entry(entry.file_name) is entry
    card = entry.card("ab" * 32)
    assert (card.name, card.input_size, card.source_sha256) == (name, entry.input_size, "ab" * 32)
    assert card.metrics == entry.metrics


def test_known_files() -> None:
    """The files that users bring, with the digits that their names carry."""
    halpe = REGISTRY["hrnet_w48_384x288.mmpose_halpe136"]
    assert halpe.file_name == "hrnet_w48_halpe_384x288_dark_plus-d13c2588_20211021.pth"
    assert (halpe.sha256, halpe.skeleton) == ("d13c2588", "halpe136")
    assert halpe.metrics == {"halpe_v1_val/whole_ap": 0.527, "halpe_v1_val/whole_ar": 0.620}
    assert REGISTRY["hrnet_w48_384x288.mmpose_coco17"].sha256 == "741844ba"
    assert len({entry.file_name for entry in REGISTRY.values()}) == len(REGISTRY)
    assert find_entry("nothing") is None


def test_own_weights_lie_in_the_repository_and_are_what_the_table_says() -> None:
    entry = REGISTRY[OWN]
    path = Path(__file__).resolve().parents[2] / "weights" / entry.file_name
    assert (sha256_of(path), path.stat().st_size) == (entry.sha256, entry.size_bytes)
    card = read_card(path)
    for name in ("arch", "skeleton", "input_size", "decode_kernel", "licence"):
        assert getattr(card, name) == getattr(entry, name)
    for name, value in entry.metrics.items():
        assert card.metrics[name] == pytest.approx(value, abs=5e-4)
    assert entry.source_by_hand == f"weights/{entry.file_name} from wholepose's repository"
