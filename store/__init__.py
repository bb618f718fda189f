"""What the cluster agrees on, and what this host must not forget: versioned keys with compare-and-set."""
