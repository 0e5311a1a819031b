"""A network behind HTTP, and its page."""
