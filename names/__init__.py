"""Names of containers: who may ask for which, and a resolver that answers."""
