"""What others have set on this host that is in the way of our networks."""

from collections.abc import Iterator

from operations.checks.finding import error, warning
from operations.facts import Facts
from operations.lookup import explain
from operations.model import Finding
from store.ip import contains


def nobody_uses_our_pools(facts: Facts) -> Iterator[Finding]:
    for prefix, dev in facts.foreign:
        for network in facts.networks:
            for pool in network.pools:
                if contains(pool, prefix):
                    yield error(
                        "overlap",
                        f"{prefix} on {dev} is not of flannelpy, and takes packets for the pool {pool} away",
                        f"remove it (`ip route del {prefix}`, or the address on {dev}), or make the network elsewhere",
                    )


def host_forwards(facts: Facts) -> Iterator[Finding]:
    for switch in facts.not_forwarding:
        yield error(
            "forwarding",
            f"{switch} is 0: this host does not forward what comes in there",
            f"sysctl -w net.{switch.replace('/', '.')}=1, and see who turned it off (/etc/sysctl.d)",
        )


def others_rules_let_pass(facts: Facts) -> Iterator[Finding]:
    for drop in facts.forward_drops:
        yield error(
            "forward",
            f"{drop} drops packets of containers",
            f"remove it, or accept interfaces flv* before it: `nft -a list chain {drop.chain}`",
        )
    for port, found in facts.tunnel_drops.items():
        for drop in found:
            yield error(
                "tunnel port",
                f"{drop} drops what peers send to UDP port {port} of this host",
                f"let UDP port {port} in from the other hosts: `nft -a list chain {drop.chain}`",
            )


def names_are_told(facts: Facts) -> Iterator[Finding]:
    for lookup in facts.lookups:
        if not lookup.right:
            yield warning("names", *explain(lookup))


def links_are_guarded(facts: Facts) -> Iterator[Finding]:
    for link in facts.unguarded:
        yield warning(
            "rp_filter",
            f"rp_filter of {link} is not 1, as flannelpy set it",
            f"sysctl -w net.ipv4.conf.{link}.rp_filter=1, and see who changed it",
        )
