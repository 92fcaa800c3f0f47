"""The same application on Ray Serve: replicas on the machines of a cluster, each with its own batches and decoders.

    serve run wholepose.serving.ray_app:build model=w48.onnx replicas=4 cpus=8

Ray's proxies take the connections, so its own limits on connections and heads count there; all else is as with
``wholepose serve``. Without an API key replicas answer to loopback names alone: set ``WHOLEPOSE_API_KEY`` in their
environment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from wholepose.errors import ConfigError, require
from wholepose.serving.settings import ServerSettings

if TYPE_CHECKING:
    from ray.serve import Application

_OPTIONS = ("model", "detector", "replicas", "cpus", "gpus")


def build(options: Mapping[str, str]) -> Application:
    """The application from the words of ``serve run wholepose.serving.ray_app:build name=value ...``.

    Args:
        options: ``model``, ``detector`` ('none' for none), ``replicas``, ``cpus`` and ``gpus``; see ``application``.

    Raises:
        ConfigError: There is no such option, or a number is none.
    """
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise ConfigError(f"there is no option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    detector = options.get("detector", "default")
    try:
        return application(
            options.get("model", "default"),
            detector=None if detector == "none" else detector,
            replicas=int(options.get("replicas", 1)),
            cpus=int(options.get("cpus", 2)),
            gpus=float(options.get("gpus", 0)),
        )
    except ValueError as error:
        raise ConfigError(f"replicas, cpus and gpus must be positive numbers: {error}") from error


def application(
    model: str = "default",
    *,
    detector: str | None = "default",
    replicas: int = 1,
    cpus: int = 2,
    gpus: float = 0,
    settings: ServerSettings | None = None,
) -> Application:
    """The application, for ``ray.serve.run``.

    Args:
        model: What ``PoseEstimator.from_pretrained`` takes; every machine must find it under this name.
        detector: What ``load_detector`` takes; None where clients always give boxes.
        replicas: Copies of the model.
        cpus: Cores of a replica; so many threads run the model, and up to 4 processes decode.
        gpus: GPUs of a replica, or a part of one; the model then runs in one thread.
        settings: Limits of a replica; the key in them is not used, since Ray would store it: replicas read
            ``WHOLEPOSE_API_KEY``.

    Raises:
        ConfigError: Ray Serve is not installed.
        ValueError: A number is below 1.
    """
    require("ray.serve", "ray")
    from dataclasses import replace

    from ray import serve

    if replicas < 1 or cpus < 1 or gpus < 0:
        raise ValueError(f"replicas={replicas}, cpus={cpus}, gpus={gpus}")
    limits = replace(
        settings or ServerSettings(),
        workers=1 if gpus else cpus,
        decoders=min(4, cpus),
        api_key=None,
    )
    deployment: Any = serve.deployment(
        serve.ingress(_builder(model, detector, limits, use_gpu=gpus > 0))(),
        name="wholepose",
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # The replica refuses what is too much, within milliseconds; Ray's own queue would let it wait.
        max_ongoing_requests=2 * limits.max_requests,
        graceful_shutdown_timeout_s=limits.drain_s,
    )
    bound: Application = deployment.bind()
    return bound


def _builder(model: str, detector: str | None, limits: ServerSettings, *, use_gpu: bool) -> Callable[[], ASGIApp]:
    """What a replica calls at its start, on its own machine."""

    def make_app() -> ASGIApp:
        from dataclasses import replace

        from wholepose.estimator import PoseEstimator
        from wholepose.serving.access import read_api_key
        from wholepose.serving.app import create_app

        estimator = PoseEstimator.from_pretrained(
            model, detector=detector, device="cuda" if use_gpu else "cpu", threads=1 if not use_gpu else None
        )
        return create_app(estimator, replace(limits, api_key=read_api_key(None)))

    return make_app
