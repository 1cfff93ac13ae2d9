"""The network of the guest's world: addresses, sockets, listeners and virtual hosts."""
