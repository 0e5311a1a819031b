"""Several processes train one network: how they meet, and how they share it.

`strategies.parallelize` shares a network: `data` (each process trains the whole network on its part of every batch),
`towers` (each process holds one tower of the paper's network) or `hybrid` ("one weird trick", arXiv 1404.5997).
"""
