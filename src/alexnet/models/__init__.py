"""The networks, their weights, and the file formats of other projects' weights.

`alexnet.AlexNet` builds a network from an `Arch`. `checkpoint` saves and loads, `formats.open_weights` opens any kind
of weights, `formats.export` writes them for other software. `response_norm`, `layers` and `initialization` are the
parts of a network; `hooks` captures outputs of its layers.
"""
