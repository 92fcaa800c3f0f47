"""Serves poses over HTTP, and a page to try it in a browser.

Listens on this machine alone unless --host names another address, which needs an API key: from --api-key-file or from
the environment variable WHOLEPOSE_API_KEY. SIGTERM and Ctrl-C finish what was begun and end with 0.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from wholepose.cli.words import count
from wholepose.errors import ConfigError, require

_EPILOG = """\
examples:
  wholepose serve                                         # then open http://127.0.0.1:8000/
  wholepose serve --model w48.onnx --detector yolox_m.onnx --port 9000
  wholepose serve --host 0.0.0.0 --api-key-file /run/secrets/wholepose

  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/poses
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' 'http://127.0.0.1:8000/v1/poses?format=png' -o poses.png

/openapi.json describes the API, /metrics is for Prometheus, /healthz and /readyz are for probes.

exit codes: 0 stopped by SIGTERM or Ctrl-C, 1 failed, 2 bad usage
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``wholepose serve``."""
    parser.epilog = _EPILOG
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1")
    where.add_argument("--port", type=_port, default=8000, metavar="N", help="0 takes a free one; default: 8000")
    where.add_argument("--api-key-file", type=Path, metavar="FILE", help="what clients must know is in this file")
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="default", metavar="NAME|PATH", help="default: the one inside the package")
    model.add_argument(
        "--detector",
        default="default",
        metavar="SPEC",
        help="'default', 'none', a YOLOX or RTMDet .onnx, or 'rtdetr[:FOLDER]'; default: default",
    )
    model.add_argument("--zoom", action="store_true", help="look at faces and hands again, enlarged: slower, better")
    model.add_argument("--runtime", choices=("auto", "onnx", "openvino", "torch"), default="auto", help="default: auto")
    model.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="default: auto")
    model.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="default: fp32")
    model.add_argument("--offline", action="store_true", help="never download weights")
    load = parser.add_argument_group("load")
    load.add_argument(
        "--batch-size", type=count, metavar="N", help="most pictures at once; default: 1 on a CPU, 16 on a GPU"
    )
    load.add_argument(
        "--workers", type=count, metavar="N", help="threads that run the model; default: one a core, 2 on a GPU"
    )
    load.add_argument("--decoders", type=count, metavar="N", help="processes that decode; default: one a core, up to 4")
    load.add_argument(
        "--max-requests", type=count, default=64, metavar="N", help="pictures accepted at a time; default: 64"
    )
    load.add_argument("--max-body-mb", type=count, default=20, metavar="N", help="longest picture file; default: 20")
    load.add_argument(
        "--max-megapixels", type=count, default=50, metavar="N", help="largest picture, in millions; default: 50"
    )
    load.add_argument("--deadline", type=count, default=20, metavar="S", help="seconds for an answer; default: 20")


def run(options: argparse.Namespace) -> int:
    """Serves until a signal comes.

    Args:
        options: As ``configure`` defines them.

    Returns:
        0.

    Raises:
        ConfigError: Options cannot work together, or another address than loopback has no key.
        WholeposeError: The weights cannot be used.
        OSError: The address is taken.
    """
    for module in ("starlette", "uvicorn", "prometheus_client"):
        require(module, "serve")
    from wholepose.serving.access import API_KEY_VARIABLE, is_loopback, read_api_key

    key = read_api_key(options.api_key_file)
    if key is None and not is_loopback(options.host):
        raise ConfigError(
            f"--host {options.host} lets other machines in: set an API key, with --api-key-file FILE or in the "
            f"environment variable {API_KEY_VARIABLE}"
        )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings tell of what strangers send
    return _serve(options, key)


def _serve(options: argparse.Namespace, key: str | None) -> int:
    from wholepose.estimator import PoseEstimator
    from wholepose.runtimes.base import available_cores
    from wholepose.serving.app import create_app
    from wholepose.serving.run import Server, address_of, listen
    from wholepose.serving.settings import ServerSettings

    try:
        settings = ServerSettings(
            batch_size=options.batch_size,
            workers=options.workers,
            decoders=options.decoders,
            max_requests=options.max_requests,
            max_batch_images=min(16, options.max_requests),
            max_body_bytes=options.max_body_mb << 20,
            max_batch_body_bytes=max(64, options.max_body_mb) << 20,
            max_held_bytes=max(256, options.max_body_mb) << 20,
            max_pixels=options.max_megapixels * 1_000_000,
            max_held_pixels=2 * options.max_megapixels * 1_000_000,
            deadline_s=options.deadline,
            api_key=key,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    bound = listen(options.host, options.port)
    try:
        estimator = PoseEstimator.from_pretrained(
            options.model,
            detector=None if options.detector == "none" else options.detector,
            runtime=options.runtime,
            device=options.device,
            precision=options.precision,
            threads=max(1, available_cores() // options.workers) if options.workers else 1,
            offline=True if options.offline else None,
            zoom=options.zoom,
        )
        app = create_app(estimator, settings)
        where = address_of(bound)
        server = Server(app, settings, on_started=lambda: print(f"wholepose: serving on {where}/", file=sys.stderr))
        server.run([bound])
    finally:
        bound.close()
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"a number from 0 to 65535 is needed, not {text!r}")
    return int(text)
