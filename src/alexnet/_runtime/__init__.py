"""The machine, not the paper: native kernels, devices, memory, files, locks, downloads, progress bars.

Every sub-package may import from here; this one imports only `alexnet.errors`. `kernels`, what it calls
(`c_kernels`, `triton_*`, `operators`), `norm_pool` and `devices` import torch, the other modules do not.
"""
