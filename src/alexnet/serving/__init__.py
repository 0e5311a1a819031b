"""HTTP server for one network, and its page. `limits` holds every limit; `app.create_app` makes the application."""
