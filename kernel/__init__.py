"""The pretend kernel: processes, the channel to the guests, the handlers of the system calls by family.

Layer: above vfs and loader, below the front door (ring3/).
"""
