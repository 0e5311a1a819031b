"""HTTP server for one network, and its page: `Service`, `create_app` and `create_server`, from those modules."""
