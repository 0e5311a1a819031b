"""The machine, not the paper: native kernels, devices, files, locks, downloads, progress bars.

May be imported by every sub-package."""
