"""What a server allows: sizes, counts and times, each with a bound."""

from __future__ import annotations

from dataclasses import dataclass

from wholepose.runtimes.base import available_cores


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits of a server. Together they bound its memory, and how long anybody waits.

    Attributes:
        batch_size: Most pictures that the model sees at once; None: 16 on a GPU, 1 on a CPU, where a batch takes as
            long as its pictures one by one and only makes the first of them wait for the last.
        workers: Threads that run the model, each on batches of its own; None: one for each core, 2 on a GPU.
        decoders: Processes that decode pictures; None: one for each core, at most 4.
        max_requests: Pictures being worked on or waiting; more are refused with 503. Fewer where the model is too slow
            to answer as many within half of ``deadline_s``.
        max_connections: Open connections; more are closed at once.
        max_body_bytes: Length of a picture's file.
        max_batch_images: Pictures in one request to ``/v1/poses:batch``.
        max_batch_body_bytes: Length of such a request.
        max_held_bytes: Length of all request bodies, and of answers that their clients have not read yet, together.
        max_pixels: Height x width of a picture.
        max_held_pixels: Of all decoded pictures that wait for the model, together; 3 bytes each.
        max_boxes: Boxes that a request may give.
        header_timeout_s: Time for a request's head to arrive.
        body_timeout_s: Time for its body to arrive.
        deadline_s: Time from there to the answer; what cannot be answered in it gets 503.
        decode_timeout_s: Time for decoding one picture.
        keep_alive_s: How long an idle connection stays open.
        write_timeout_s: How long a client may leave an answer unread.
        api_key: What clients must present as ``Authorization: Bearer KEY``; None: nobody is asked.
        any_host: Answer whatever the ``Host`` header says; else only loopback names, so that no web page can reach a
            server on its reader's machine through a name of its own.
    """

    batch_size: int | None = None
    workers: int | None = None
    decoders: int | None = None
    max_requests: int = 64
    max_connections: int = 512
    max_body_bytes: int = 20 << 20
    max_batch_images: int = 16
    max_batch_body_bytes: int = 64 << 20
    max_held_bytes: int = 256 << 20
    max_pixels: int = 50_000_000
    max_held_pixels: int = 100_000_000
    max_boxes: int = 100
    header_timeout_s: float = 10
    body_timeout_s: float = 30
    deadline_s: float = 20
    decode_timeout_s: float = 10
    keep_alive_s: float = 15
    write_timeout_s: float = 30
    api_key: str | None = None
    any_host: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: A number is not positive, or a total is smaller than what one request may have.
        """
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        for total, one in (
            ("max_held_bytes", "max_body_bytes"),
            ("max_held_bytes", "max_batch_body_bytes"),
            ("max_held_pixels", "max_pixels"),
            ("max_requests", "max_batch_images"),
        ):
            if getattr(self, total) < getattr(self, one):
                raise ValueError(f"{total} ({getattr(self, total)}) must be at least {one} ({getattr(self, one)})")

    def __repr__(self) -> str:
        """All but the key, which must not get into a log."""
        shown = {name: value for name, value in vars(self).items() if name != "api_key"}
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def decoder_count(self) -> int:
        """Processes that decode."""
        return self.decoders or min(4, available_cores())

    @property
    def drain_s(self) -> float:
        """After this long every request that had begun is answered."""
        return self.body_timeout_s + self.deadline_s + 2
