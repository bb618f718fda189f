"""Why the driver refused: each message is a sentence for the person at the `docker` prompt."""


class DriverError(Exception):
    pass


class BadRequest(DriverError):
    """The request contradicts itself or names something impossible."""


class NoSuchNetwork(DriverError):
    """This host has no network of ours with that id."""


class NoSuchEndpoint(DriverError):
    """The network has no endpoint with that id."""


class NetworkConflict(DriverError):
    """The cluster, or this host, already has a network that contradicts the request."""


class KernelError(DriverError):
    """The kernel refused a change; the message holds the operation and the kernel's words."""


class NoUnderlay(KernelError):
    """The interface to the other hosts is not there, or not ready, yet or any more."""
