"""Every limit of the HTTP server with its reason: body size, images, pixels, header size, timeouts, connections.

docs/serving.md has the same values in one table; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexnet.errors import require


@dataclass(frozen=True)
class Limits:
    """The limits of one server. Sizes are in bytes, times in seconds."""

    # Request body
    body_bytes: int = 20_000_000
    """One request body (`--max-mb`): more than any camera's JPEG. Rejected with 413, by Content-Length before the body
    is read, else as soon as the received bytes exceed it."""
    total_body_bytes: int = 64_000_000
    """All bodies that are being received or processed: bounds the memory of the server. Above it the server evicts the
    upload with the largest product of bytes and age, with 503."""
    free_body_bytes: int = 1_000_000
    """Of each body, received as fast as it comes: an ordinary photo. See `large_body_bytes_per_second`."""
    large_body_bytes_per_second: float = 25e6
    """Rate of the bytes beyond that of all bodies of one client, while another client is active: the event loop, busy
    with one client's large bodies, would take the processor from the threads that classify another's image."""
    body_seconds: float = 20.0
    """Time in which a body must arrive, so that slow clients do not hold memory. Rejected with 408."""
    images: int = 64
    """Images in one request: bounds the time of one response. Rejected with 400."""
    form_parts: int = 640
    """Parts of a form. Text fields are ignored, but each costs parsing time. Rejected with 413."""
    part_header_bytes: int = 4096
    """Header of one form part. Rejected with 400."""
    file_name_characters: int = 200
    """File name of an upload. It only labels the result; a longer one is truncated."""

    json_values: int = 1_000_000
    """Values in the JSON of an inference request, by its commas, colons, brackets and backslashes: six images of 227
    pixels a side as numbers. A worker process parses them in tenths of a second. Rejected with 413."""

    # Image
    pixels: int = 50_000_000
    """Pixels of one image, read from its header before decoding: as many as phone cameras have; 150 MB decoded.
    Rejected with 422."""
    request_pixels: int = 100_000_000
    """Pixels of all images of one request, by their headers: bounds the time that one request takes from others. An
    image beyond it has an error of its own."""
    decode_bytes: int = 512_000_000
    """Memory that images decoded in parallel may take, estimated from their headers (`data.decode_memory`)."""
    large_bytes: int = 128_000_000
    """Images that take more are decoded one at a time, besides: at most 800 MB. A JPEG of 16 million pixels, a PNG of
    10 million."""
    large_images: int = 4
    """Large images that wait for that or are being decoded, all but one at most for one client. Each further one has an
    error of its own; where it is the request's only image, 503."""
    locked_pixels: int = 2_000_000
    """WebP images with more are decoded in worker processes: their decoder holds Python's lock, about 3 ms for each
    million pixels, and no request is handled meanwhile. AVIF and HEIC images always are, as they may be larger than
    their header states."""
    worker_bytes: int = 1_500_000_000
    """Memory that a worker process may allocate, on Linux. The image with 422, or the request with 413, that needs more
    is rejected."""
    worker_seconds: float = 60.0
    """Time of a worker process for one image or one body: some seconds suffice, but other work of the machine has
    priority. Then it is killed, and the image or the request rejected with 422."""
    views: int = 160
    """Images of a request times views of each: ten views of 16 images. Rejected with 400."""

    # Queue
    max_queue_seconds: float = 1.0
    """Estimated waiting time above which a request is rejected with 503 (`--max-queue-seconds`)."""

    failed_batches: int = 3
    """Batches in a row that raised, from which `/ready` responds 503."""

    # Connection
    connections: int = 1024
    """Open connections. A request on a further connection gets 503."""
    client_connections: int = 256
    """Open connections of one client, or of one proxy: a quarter, so that two clients cannot take all. A request on a
    further connection gets 503."""
    header_bytes: int = 32_768
    """Header of a request. Rejected with 400."""
    header_seconds: float = 10.0
    """Time in which the header of a request must arrive. Then the server closes the connection."""
    response_seconds: float = 10.0
    """Time in which the client must read some of a response that waits for it. Then the connection is closed."""
    keep_alive_seconds: int = 75
    """Time for which an idle connection stays open after a response (`--keep-alive`): longer than proxies keep theirs,
    mostly 60 seconds. Otherwise a proxy may use a connection that the server is closing, and its client gets 502."""
    read_bytes: int = 16_384
    """Bytes that are read from a connection at once. A body in chunks of one byte costs its parser hundreds of times
    more than others, and meanwhile no other connection is processed."""
    parse_seconds: float = 0.25
    """Processor time for parsing one request, plus `parse_seconds_per_byte` for each byte. Then the server closes the
    connection."""
    parse_seconds_per_byte: float = 5e-8
    """Ten times what an image needs, a tenth of what chunks of one byte need."""
    drain_seconds: float = 1.0
    """Time for which the rest of a rejected body is read and discarded, so that the client receives the response."""
    rejected_bytes_per_second: float = 20e6
    """Rate of the rejected bodies of one client: the response to a rejected request, whatever its status, waits for its
    body's size by this rate, and so does its end for what is read of the body after it. A client that sends it again at
    once would otherwise occupy the event loop."""
    rejected_requests_per_second: float = 20.0
    """Rate of the rejected requests of one client while another client is active, for the same reason."""
    rejection_seconds: float = 10.0
    """Longest wait of such a response; one that would wait longer waits a random time of at least half of it. So a
    client with N connections gets about N / 7.5 of them a second, whatever the rates. Bytes that are no HTTP request do
    not wait; their connection closes."""

    # Shutdown
    accept_seconds: float = 0.5
    """Time for which a server that received SIGTERM still accepts connections (`--drain`): balancers react late."""
    shutdown_seconds: int = 24
    """Time in which a server that received SIGTERM must have ended, `accept_seconds` and 2 seconds for its threads
    included: Kubernetes kills after 30."""

    def __post_init__(self) -> None:
        require(self.total_body_bytes >= self.body_bytes,
                f"total_body_bytes {self.total_body_bytes} is smaller than body_bytes {self.body_bytes}",
                "raise total_body_bytes")
        require(0 <= self.accept_seconds <= self.shutdown_seconds - 4,
                f"--drain {self.accept_seconds:g} must be from 0 to {self.shutdown_seconds - 4} seconds: the server "
                f"ends {self.shutdown_seconds} seconds after SIGTERM, and needs 4 of them to finish requests",
                f"give --drain {self.shutdown_seconds - 4} or less")
        require(1 <= self.keep_alive_seconds <= 3600,
                f"--keep-alive {self.keep_alive_seconds} must be from 1 to 3600 seconds")

    @classmethod
    def from_options(cls, max_mb: int, max_queue_seconds: float, drain: float, keep_alive: int) -> Limits:
        """The limits that `alexnet serve` uses.

        Two of the largest bodies always fit into memory, and arrive in time if one client sends both.
        """
        body_bytes = 1_000_000 * max_mb
        return cls(body_bytes=body_bytes, total_body_bytes=max(cls.total_body_bytes, 2 * body_bytes),
                   large_body_bytes_per_second=max(cls.large_body_bytes_per_second, 2 * body_bytes / cls.body_seconds),
                   max_queue_seconds=max_queue_seconds, accept_seconds=drain, keep_alive_seconds=keep_alive)
