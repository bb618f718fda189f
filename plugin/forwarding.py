"""The part of the composition root that is about packets: who makes this host's kernel as it should be."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.agent import Worker
from cluster.watch import Watch
from driver.backends import BACKENDS
from driver.doors import Door
from driver.forwarders import Forwarders
from driver.journal import Journal
from driver.kernel import KeptKernel, Notices
from driver.listener import COALESCE_RULES, Listener
from driver.membership import Membership
from driver.network_driver import NetworkDriver
from driver.nft import RuleNotices
from driver.offload import Offloads
from driver.ports import Ports
from driver.reconciler import Reconciler
from driver.remover import Remover
from driver.wireguard import WireguardDoor
from driver.wireguard_key import HostKey
from plugin.addressing import Addressing
from plugin.settings import REQUIRED, Settings
from store.interface import Check, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forwarding:
    reconciler: Reconciler
    driver: NetworkDriver
    listeners: Sequence[Listener]
    workers: Sequence[Worker]


def assemble_forwarding(
    settings: Settings,
    store: Store,
    networks: Journal,
    watch: Watch,
    addressing: Addressing,
    fence: Callable[[], Check],
    moved: Callable[[], None],
) -> Forwarding:
    """`fence` goes into what tells the others where this host is; `moved` hears that it has another address in the
    underlay."""
    key = HostKey(settings.state_dir / "wireguard.key")
    forwarders = Forwarders(settings.state_dir, lambda: reconciler.poke())
    doors: list[Door] = [Offloads(), WireguardDoor(key), forwarders]
    where = settings.iface, settings.address
    reconciler = Reconciler(networks, settings.host, watch.view, *where, doors, settings.dns, moved=moved)
    ports, encrypted = Ports(networks.all_endpoints), settings.encryption == REQUIRED
    if encrypted:
        _tell_of_plaintext(networks)
    membership = Membership(
        *(store, settings.host, settings.backend, key.public),
        encryption_required=encrypted,
        announced=watch.shows,
        fence=lambda: [fence()],
    )
    remover, kernel = Remover(KeptKernel(), reconciler.poke), KeptKernel()
    driver = NetworkDriver(networks, membership, addressing.own, reconciler, ports, remover, kernel, settings.dns)
    listener = Listener(reconciler.poke, lambda: Notices(None, reconciler))
    rules = Listener(reconciler.rules_changed, RuleNotices, COALESCE_RULES)
    return Forwarding(reconciler, driver, (listener, rules), [ports, reconciler, remover, listener, rules])


def _tell_of_plaintext(networks: Journal) -> None:
    """What was there before encryption was required keeps running, and is not kept quiet about."""
    for network in networks.networks():
        if not BACKENDS[network.backend].encrypts:
            log.error("network is not encrypted", extra={"pool": network.pools[0], "backend": network.backend})
