"""Log of requests on standard error: one line each, as text or as JSON with the seconds of every stage (`--log`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Literal

from alexnet._runtime.json_lines import utc_now
from alexnet.serving.request_record import RequestRecord

LogFormat = Literal["text", "json"]

LOGGER = logging.getLogger("alexnet.requests")


def request_logger(log_format: LogFormat | None) -> Callable[[RequestRecord], None]:
    """The function that logs a request; it does nothing for None."""
    if log_format is None:
        return lambda record: None
    line = {"text": text_line, "json": json_line}[log_format]
    return lambda record: LOGGER.info("%s", line(record))


def text_line(record: RequestRecord) -> str:
    """Time, client, request, status, seconds and request id."""
    target = f"{record.path}?{record.query}" if record.query else record.path
    return (f'{utc_now()} {record.client} "{record.method} {target}" {record.status} {record.seconds:.3f}s '
            f"{record.request_id}")


def json_line(record: RequestRecord) -> str:
    """One JSON object. Text that a request does not have is null; times are in seconds."""
    return json.dumps({
        "time": utc_now(), "id": record.request_id, "traceparent": record.traceparent or None,
        "client": record.client or None, "method": record.method or None, "path": record.path or None,
        "query": record.query or None, "status": record.status, "bytes": record.received_bytes,
        "images": record.images, "model": record.model or None, "model_sha256": record.model_sha256 or None,
        "rejection": record.rejection or None, "seconds": round(record.seconds, 6),
        "queue_seconds": round(record.queue_seconds, 6), "decode_seconds": round(record.decode.seconds, 6),
        "network_seconds": round(record.network.seconds, 6)})
