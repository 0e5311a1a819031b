"""The networks, their weights, and the formats that weights come in."""
