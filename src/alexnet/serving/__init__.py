"""HTTP server for one or several networks, and its page. `limits` has every limit; `app.create_app` makes the server."""
