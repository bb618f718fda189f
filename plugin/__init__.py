"""Talks to dockerd: HTTP and JSON at the edge, settings, and the one place where everything is put together."""
