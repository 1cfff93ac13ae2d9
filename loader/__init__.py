"""The loader: executables and scripts become a plan of mappings and an initial stack."""
