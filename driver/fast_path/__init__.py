"""Packets within one network go past the host's rules: a program in the kernel, on each link of the network."""
