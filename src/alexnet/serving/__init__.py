"""HTTP server for one or several networks, and its page. `limits` holds every limit; `app.create_app` makes the application."""
