"""A laboratory on one machine: real Docker hosts and a real Consul, each in namespaces of its own."""
