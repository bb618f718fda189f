"""All that the doctor checks: each a pure function from the gathered facts to findings."""

from collections.abc import Callable, Iterator

from operations.checks import host, network, peers, store
from operations.facts import Facts
from operations.model import Finding

Check = Callable[[Facts], Iterator[Finding]]

# What is likely the cause of others comes first.
CHECKS: tuple[Check, ...] = (
    store.store_answers,
    store.records_can_be_read,
    store.lease_is_kept,
    store.store_remembers,
    store.clocks_agree,
    host.engine_answers,
    host.disk_has_room,
    host.kernel_is_as_it_should_be,
    host.duties_are_done,
    network.nobody_uses_our_pools,
    network.host_forwards,
    network.others_rules_let_pass,
    network.links_are_guarded,
    network.names_are_told,
    peers.underlay_is_known,
    peers.published_address_is_here,
    peers.addresses_are_published_once,
    peers.peers_live,
    peers.others_send_to_the_right_interface,
    peers.peers_answer,
    peers.tunnels_answer,
    peers.full_packets_pass,
    peers.checksums_are_right,
    peers.no_strangers_call,
    host.no_address_is_used_twice,
    host.nothing_is_left_over,
)


def examine(facts: Facts) -> tuple[Finding, ...]:
    return tuple(finding for check in CHECKS for finding in check(facts))
