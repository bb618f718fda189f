"""The data plane of the udp backend: a process of its own that carries packets between TUN devices and UDP."""
