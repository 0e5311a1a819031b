"""Many processes that train one network."""
