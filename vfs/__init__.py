"""The virtual filesystem: paths, mounts, permissions, and one module or folder for each filesystem (docs/filesystem.md).

Layer: beneath the pretend kernel's handlers; it knows nothing of guests but who calls.
"""
