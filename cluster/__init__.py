"""What one host does about the others, off the request path."""
