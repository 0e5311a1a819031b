"""The machine, not the paper: native kernels, devices, memory, files, locks, downloads, progress bars.

Every sub-package may import from here; this one imports only `alexnet.errors`. `kernels`, `devices` and
`triton_kernels` import torch, the other modules do not.
"""
