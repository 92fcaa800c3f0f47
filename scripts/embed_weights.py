"""Puts a model into the package: copies an ONNX file to its place and writes its hash into the table beside it.

python scripts/embed_weights.py model.onnx default
python scripts/embed_weights.py --refresh        # hash again what lies there
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from wholepose.errors import WeightsError
from wholepose.outputs import atomic_path
from wholepose.weights import check_onnx_file, read_card, sha256_of, weights_format
from wholepose.weights.embedded_models import EMBEDDED_FOLDER, TABLE_NAME

LARGEST_BYTES = 20_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the ONNX model")
    parser.add_argument("name", nargs="?", metavar="NAME", help="its name: default, clean, detector")
    parser.add_argument("--refresh", action="store_true", help="only write the table again")
    parser.add_argument("--folder", type=Path, default=EMBEDDED_FOLDER, help="the package's folder of models")
    options = parser.parse_args()
    if options.refresh == (options.name is not None):
        parser.error("give FILE and NAME, or --refresh")
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        if not options.refresh:
            embed(options.file, options.name, options.folder)
        write_table(options.folder)
    except (WeightsError, OSError) as error:
        print(f"embed_weights: {error}", file=sys.stderr)
        return 1
    return 0


def embed(file: Path, name: str, folder: Path) -> None:
    """Copies a model to its place, once it is known to be whole in itself."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise WeightsError(f"{name!r}: a name has lower-case letters, digits and underscores")
    if weights_format(file) != "onnx":
        raise WeightsError(f"{file}: only ONNX models are embedded")
    if check_onnx_file(file).external_files:
        raise WeightsError(f"{file}: keeps weights in other files; export it into one")
    if name != "detector":
        print(read_card(file))
    if file.stat().st_size > LARGEST_BYTES:
        raise WeightsError(f"{file}: has {file.stat().st_size} bytes; at most {LARGEST_BYTES} go into the package")
    with atomic_path(folder / f"{name}.onnx") as temporary:
        shutil.copyfile(file, temporary)


def write_table(folder: Path) -> None:
    """Hashes every model of the folder."""
    rows = {
        path.stem: {"sha256": sha256_of(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.glob("*.onnx"))
        if not path.name.startswith(".")
    }
    with atomic_path(folder / TABLE_NAME) as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    sys.exit(main())
