"""The operating system's limit on the files and connections that this process may have open."""

from __future__ import annotations


def raise_file_limit(wanted: int) -> None:
    """Raise the limit to `wanted`, or as far as the system allows. On Windows, which has none, nothing is done."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
