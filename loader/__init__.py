"""The loader: executables and scripts become a plan of mappings and an initial stack.

Part of: loader. May touch: the host fds of the files it is given (read only), the host's auxiliary vector.

``prepare`` (prepare.py) does what execve(2) does before its point of no return and raises what execve would
return; ``Prepared.layout`` does what comes after it and cannot fail. elf.py reads ELF files, script.py reads
``#!`` lines, stack.py builds the initial stack, plan.py has the types that loader and kernel side share.
"""
