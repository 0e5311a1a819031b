"""Which part of a layer each process holds."""

from __future__ import annotations


def chunks(whole: int, n: int) -> list[int]:
    """How DTensor cuts a dimension: equal parts, rounded up, as long as there is something left."""
    part = -(-whole // n)
    return [max(0, min(part, whole - rank * part)) for rank in range(n)]
