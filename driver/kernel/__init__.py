"""The door to the kernel: the only package that speaks netlink.

Ours are the links named `fl.*` and `flv*`, what is on them, and routes of protocol 0x66; nothing else is ever read
as ours or changed. Links and addresses, of which a host has few, go through pyroute2; routes, neighbours and forwarding
entries, of which it has thousands, are packed and read here."""

from driver.kernel.door import KeptKernel, Kernel
from driver.kernel.links import WIREGUARD_LINK
from driver.kernel.notices import Notices

__all__ = ["WIREGUARD_LINK", "KeptKernel", "Kernel", "Notices"]
