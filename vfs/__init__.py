"""The virtual filesystem: paths, mounts, permissions, one module or folder a filesystem (docs/filesystem.md).

Layer: beneath the pretend kernel's handlers; it knows nothing of guests but who calls.
"""
