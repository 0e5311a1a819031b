"""The public Python functions, which the commands of the same names call: `train`, `evaluate`, `features`.

`alexnet.train` and the others are imported from here when they are first used. No module here imports torch when it is
imported; each function imports what it needs when it is called.
"""
