"""Files on disk -> packed shards -> uint8 batches -> network input."""
