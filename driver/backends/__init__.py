"""The backends by the name that `-o backend=` takes."""

from driver.backends.host_gw import HostGw
from driver.backends.interface import Backend
from driver.backends.udp import Udp
from driver.backends.vxlan import Vxlan
from driver.backends.wireguard import Wireguard

BACKENDS: dict[str, Backend] = {"vxlan": Vxlan(), "host-gw": HostGw(), "wireguard": Wireguard(), "udp": Udp()}
