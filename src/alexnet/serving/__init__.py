"""HTTP server for one or several networks, and its page. `limits` has every limit; `create_app` makes the server."""
