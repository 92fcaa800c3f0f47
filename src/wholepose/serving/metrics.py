"""What the server counts and times, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0)
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


class Metrics:
    """One server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "wholepose_requests", "Answers, by route and status", ["route", "status"], registry=self.registry
        )
        self.rejected = Counter(
            "wholepose_rejected", "Requests that were refused, by code", ["code"], registry=self.registry
        )
        self.disconnects = Counter(
            "wholepose_disconnects", "Clients that left before the answer", registry=self.registry
        )
        self.stage = Histogram(
            "wholepose_stage_seconds",
            "Time a picture spends: read, decode (with waiting for a decoder), queue, predict, answer, total",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "wholepose_batch_images", "Pictures in a batch of the model", buckets=_COUNTS, registry=self.registry
        )
        self.people = Counter("wholepose_people", "People found", registry=self.registry)
        self.in_flight = Gauge("wholepose_in_flight", "Pictures worked on or waiting", registry=self.registry)
        self.queue = Gauge("wholepose_queue", "Decoded pictures that wait for the model", registry=self.registry)
        self.held_bytes = Gauge(
            "wholepose_held_bytes", "Bytes of request bodies and answers held", registry=self.registry
        )
        self.decoder_restarts = Counter(
            "wholepose_decoder_restarts", "Decoder processes replaced, by reason", ["reason"], registry=self.registry
        )

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Times a stage, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage.labels(stage).observe(time.perf_counter() - start)
