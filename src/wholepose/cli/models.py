"""List, describe, verify, import and download weights."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

SUMMARY = "list, describe, verify and import weights"

EPILOG = """\
examples:
  wholepose models list
  wholepose models info default
  wholepose models info my_model.onnx --json
  wholepose models verify
  wholepose models import ~/Downloads/hrnet_w48_halpe_384x288_dark_plus-d13c2588_20211021.pth
  wholepose models download hrnet_w48_384x288.mmpose_halpe136

Downloaded and imported files lie in the cache folder, which WHOLEPOSE_HOME sets; WHOLEPOSE_OFFLINE=1 forbids the
network. Published checkpoints (.pth) are made into models with `wholepose convert`.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the actions and their options."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")
    summaries = {
        "list": "all models by name, and whether they are on this machine",
        "info": "what one model is: architecture, skeleton, licence, numbers, hash",
        "verify": "compare files with their hashes; exit code 1 if one is damaged",
        "import": "copy a published file into the cache, recognised by its hash",
        "download": "fetch a model into the cache, so that it can be used offline",
    }
    for name, summary in summaries.items():
        action = actions.add_parser(name, help=summary, description=summary)
        if name == "info":
            action.add_argument("name", metavar="NAME|FILE", help="a model's name or the path of a weights file")
        elif name == "verify":
            action.add_argument("name", metavar="NAME", nargs="?", help="one model; all of them where it is left out")
        elif name == "import":
            action.add_argument("file", metavar="FILE", help="a file as published, under whatever name")
        elif name == "download":
            action.add_argument("name", metavar="NAME", help="a model's name")
        action.add_argument("--json", action="store_true", help="write JSON to stdout")


def run(options: argparse.Namespace) -> int:
    """Runs one action; the results go to stdout.

    Returns:
        0, or 1 where `verify` found a damaged file.
    """
    actions = {"list": _list, "info": _info, "verify": _verify, "import": _import, "download": _download}
    return actions[options.action](options)


def _list(options: argparse.Namespace) -> int:
    from wholepose.weights import REGISTRY, cached_path, embedded_models, read_card

    rows: list[dict[str, Any]] = []
    for model in embedded_models().values():
        row: dict[str, Any] = {"name": model.name, "where": "embedded"}
        card = _card_or_none(read_card, model.path)
        if card is not None:
            row |= {"skeleton": card.skeleton, "arch": card.arch, "input_size": card.input_size}
        rows.append(row | {"size_bytes": model.size_bytes})
    for entry in REGISTRY.values():
        rows.append(
            {
                "name": entry.name,
                "where": "cache" if cached_path(entry).exists() else "not here",
                "skeleton": entry.skeleton,
                "arch": entry.arch,
                "input_size": entry.input_size,
                "size_bytes": entry.size_bytes,
            }
        )
    if options.json:
        _print_json(rows)
        return 0
    width = max(len(row["name"]) for row in rows)
    print(f"{'name':{width}}  {'where':8}  {'arch':18}  {'input':7}  skeleton")
    for row in rows:
        size = "x".join(str(side) for side in row.get("input_size", ()))
        print(
            f"{row['name']:{width}}  {row['where']:8}  {row.get('arch', '-'):18}  {size or '-':7}  "
            f"{row.get('skeleton', '-')}"
        )
    return 0


def _card_or_none(read_card: Any, path: Any) -> Any:
    """Returns a model's card; None for the person detector's, which is of another kind, and for files without one."""
    from wholepose.errors import WeightsError

    try:
        return read_card(path)
    except WeightsError:
        return None


def _info(options: argparse.Namespace) -> int:
    from wholepose.images import printable_path
    from wholepose.weights import (
        cached_path,
        check_onnx_file,
        embedded_models,
        find_entry,
        read_card,
        resolve,
        sha256_of,
    )

    entry = find_entry(options.name)
    facts: dict[str, Any]
    if entry is not None:
        path = cached_path(entry)
        facts = dataclasses.asdict(entry)
        card = _card_or_none(read_card, path)
        if card is not None:  # a file of ours, whose card says more
            facts |= dataclasses.asdict(card) | {"name": entry.name}
        facts["sha256"] = entry.expected
        facts["path"] = printable_path(path)
        facts["in_cache"] = path.exists()
    else:
        path = resolve(options.name, offline=True)
        if options.name == "detector" and "detector" in embedded_models():
            facts = {"name": "detector"} | json.loads(check_onnx_file(path).metadata.get("wholepose_detector", "{}"))
        else:
            facts = dataclasses.asdict(read_card(path))
        facts |= {"path": printable_path(path), "size_bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if options.json:
        _print_json(facts)
        return 0
    intervals = facts.pop("intervals", {})
    for key, value in facts.items():
        if key == "metrics" and value:
            print("metrics:")
            for name, number in value.items():
                bounds = f"  [{intervals[name][0]:.4g}, {intervals[name][1]:.4g}]" if name in intervals else ""
                print(f"  {name + ':':36} {number:.4g}{bounds}")
        elif key == "training_data" and value:
            print("training_data:", *value, sep="\n  ")
        elif value not in ("", None, (), {}):
            print(f"{key + ':':16} {_words(value)}")
    return 0


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        numbers = all(isinstance(item, int) for item in value)
        return (" x " if numbers else ", ").join(str(item) for item in value)
    return str(value)


def _verify(options: argparse.Namespace) -> int:
    from wholepose.images import printable_path
    from wholepose.weights import verify

    found = verify(options.name)
    damaged = [item for item in found if item.state == "damaged"]
    if options.json:
        _print_json([dataclasses.asdict(item) | {"path": printable_path(item.path)} for item in found])
    else:
        for item in found:
            state = "not here" if item.state == "missing" else item.state
            print(f"{state:8}  {item.name}  {printable_path(item.path)}")
    for item in damaged:
        print(
            f"wholepose: {item.name}: {printable_path(item.path)} has sha256 {item.actual or 'that cannot be read'}, "
            f"expected {item.expected}; delete it and fetch or import it again",
            file=sys.stderr,
        )
    if options.name is not None and found[0].state == "missing":
        print(f"wholepose: {options.name}: not on this machine", file=sys.stderr)
        return 1
    return 1 if damaged else 0


def _import(options: argparse.Namespace) -> int:
    from wholepose.images import printable_path
    from wholepose.weights import import_file

    entry, path = import_file(options.file)
    if options.json:
        _print_json({"name": entry.name, "path": printable_path(path)})
    else:
        print(f"{entry.name}  {printable_path(path)}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from wholepose.images import printable_path
    from wholepose.weights import resolve

    path = resolve(options.name)
    if options.json:
        _print_json({"name": options.name, "path": printable_path(path)})
    else:
        print(printable_path(path))
    return 0


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, sort_keys=False))
