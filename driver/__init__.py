"""Makes packets flow on this host: endpoints, backends, and the loop that keeps the kernel as it should be."""
