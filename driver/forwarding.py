"""What this host forwards: our own table, the accepts beside Docker's rules, and the kernel's switches."""

import logging
from collections.abc import Sequence

from driver import firewall, nft, sysctl
from driver.backends.interface import Underlay
from driver.errors import KernelError
from driver.filter import Member, Sets, admitting, members, sets
from driver.goal import LocalNetwork
from driver.kernel import flows, old_tables
from driver.model import Network
from driver.translations import Translations, changed, translations

log = logging.getLogger(__name__)


class Forwarding:
    """For the reconciler's thread, where nothing else is said."""

    def __init__(self) -> None:
        self._nft = nft.Nft()
        self._members: dict[Network, frozenset[Member]] = {}
        self._asked: tuple[Sequence[LocalNetwork], frozenset[str]] | None = None
        self._wanted: Sets = {}
        self._standing: Sets = {}  # what was last put there
        self._settled = False
        self._leads: Translations = {}  # the published ports, as wanted
        self._led: Translations = {}  # and as they were when flows were last forgotten
        self._generation = 0
        self._old_tables: dict[int, bytes] = {}  # what the kernel said of them when they were last looked at
        self._allowed: Sequence[int] | None = None  # IP versions that Docker's rules let pass

    def admit(self, underlay: Underlay | None, networks: Sequence[LocalNetwork]) -> None:
        """Let in who is new among the peers, before anything is sent there and answered; who is none any more stays
        until `settle`, for which everything else is left, and telling of what failed."""
        settled = self._settled
        try:
            self._want(underlay, networks)
            if self._settled:
                return
            admitted = admitting(self._standing, self._wanted)
            if admitted != self._standing:
                alone = self._put(admitted)
                self._settled = settled and alone and admitted == self._wanted
        except KernelError:
            self._settled = False

    def settle(self, underlay: Underlay | None, networks: Sequence[LocalNetwork], *, look: bool) -> list[str]:
        """What failed: it names the device of every network, since none is guarded. Without a `look` at what others
        may have changed, only what is wanted anew is done."""
        try:
            self._want(underlay, networks)
            if look or not self._settled:
                versions = {pool.version for local in networks for pool in local.network.pools}
                self._settle(sorted(versions), underlay.dev if underlay else None)
                self._settled = True
        except KernelError as error:
            self._settled = False
            return [f"{', '.join(local.network.device for local in networks) or 'no network'}: {error}"]
        return []

    def disturbed(self) -> bool:
        """Whether anybody else has changed rules since the last time, as far as can be seen of the old tables.
        For any thread."""
        return self._generation != nft.read_generation() or self._old_tables != old_tables.sizes()

    def _want(self, underlay: Underlay | None, networks: Sequence[LocalNetwork]) -> None:
        asked = networks, underlay.uplinks if underlay else frozenset[str]()
        if asked != self._asked:
            self._wanted, self._asked, self._settled = self._sets(*asked), asked, False

    def _sets(self, networks: Sequence[LocalNetwork], uplinks: frozenset[str]) -> Sets:
        self._members = {local.network: self._known_members(local) for local in networks}
        senders = [member for some in self._members.values() for member in some]
        endpoints = [endpoint for local in networks for endpoint in local.endpoints]
        self._leads = translations(endpoints)
        return sets(list(self._members), senders, endpoints, uplinks)

    def _settle(self, versions: Sequence[int], dev: str | None) -> None:
        """Our own rules first: what Docker is told to let pass must already be judged by them."""
        alone = self._put(self._wanted)
        self._forget_flows()
        old = old_tables.sizes()  # before the look: what changes during it is looked at again
        if not alone or self._allowed != versions or old:
            firewall.allow(versions)
            self._allowed, self._old_tables = versions, old
        self._generation = nft.read_generation()
        if dev is not None:
            for version in versions:
                if not sysctl.forwards(version):
                    firewall.close(version)
                sysctl.ensure_forwarding(version, dev)

    def _put(self, wanted: Sets) -> bool:
        """Make our table exactly this; whether nobody else has changed rules since the last time."""
        alone = not self.disturbed()
        next_one = self._generation + self._nft.settle(wanted)
        self._standing = wanted
        alone = alone and nft.read_generation() == next_one
        if alone:
            self._generation = next_one
        return alone

    def _forget_flows(self) -> None:
        """Flows that began when a published port led elsewhere, or nowhere, go where it leads now."""
        leading = changed(self._led, self._leads)
        if not leading:
            return
        try:
            if forgotten := flows.forget(leading):
                log.info("flows to published ports begin anew", extra={"flows": forgotten})
        except KernelError as error:  # they end by themselves, and new ones do not suffer
            log.warning("flows may go on to where a published port led before", extra={"why": error})
        self._led = self._leads

    def _known_members(self, local: LocalNetwork) -> frozenset[Member]:
        """Where the other hosts are not known, they stay who they were: before a restart, if need be."""
        if local.remotes is not None:
            return members(local.network, local.remotes)
        if local.network in self._members:
            return self._members[local.network]
        return frozenset(m for m in nft.read_members() if (m.port, m.vni) == (local.network.port, local.network.vni))
