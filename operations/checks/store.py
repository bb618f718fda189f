"""The store, and this host's lease in it."""

import re
from collections.abc import Iterator

from ipam.epoch import WATCHED
from ipam.tenancy import period_of
from operations.checks.finding import error, warning
from operations.facts import Facts
from operations.model import Finding

REFUSED = re.compile(r"Consul at \S+ refused \(")  # store/consul.py
NEAR = 0.5  # of the lease time without a beat
CLOCKS = "addresses do not depend on it, certificates and logs do"
MOST_SKEW = 5.0  # seconds; the store's Date has whole ones


def store_answers(facts: Facts) -> Iterator[Finding]:
    refused = facts.store_error if facts.forbidden else refusal(facts)
    if refused is not None:
        yield error(
            "store",
            f"the store does not allow this host's token what it needs: {refused}",
            "give the token that policy, or start flannelpy with another one in CONSUL_HTTP_TOKEN",
        )
    elif facts.store_error is not None:
        yield error(
            "store",
            f"the store is away: {facts.store_error}",
            f"see that {facts.store} runs and can be reached from here; containers go on meanwhile, with the addresses "
            "that this host holds",
        )


def refusal(facts: Facts) -> str | None:
    """What the store told a duty that wrote something: a token may be good for reading alone."""
    return next((why for why in facts.failing.values() if REFUSED.match(why)), None)


def records_can_be_read(facts: Facts) -> Iterator[Finding]:
    for key in facts.faulty:
        yield warning(
            "record",
            f"{key} in the store cannot be read, and is passed over",
            f"if somebody wrote it by hand, `consul kv delete CLUSTER/{key}` (CLUSTER is FLANNELPY_CLUSTER); else a "
            "host has a newer flannelpy: update this one",
        )


def lease_is_kept(facts: Facts) -> Iterator[Finding]:
    silence, ttl = facts.lease.silent_for, facts.lease.ttl
    if facts.lease.fence:
        yield error(
            "lease",
            f"the lease has lapsed, no address is given out: {facts.lease.fence}",
            "do so, or bring the store back; then `flannelpy doctor` again, for addresses that another host has now",
        )
    elif silence is not None and silence > NEAR * ttl:
        yield warning(
            "lease",
            f"the lease was last renewed {silence:.0f} s ago and lasts {ttl:.0f} s",
            "bring the store back before it ends, or other hosts take this one's addresses",
        )


def store_remembers(facts: Facts) -> Iterator[Finding]:
    if facts.lease.retelling:
        yield warning(
            "store",
            "the store has lost what it knew, and the hosts are telling it again: until then none takes a new block, "
            "and no network is made",
            f"wait; it takes {(WATCHED + 1) * period_of(facts.lease.ttl):.0f} s if all hosts reach the store",
        )


def clocks_agree(facts: Facts) -> Iterator[Finding]:
    if facts.skew is not None and abs(facts.skew) > MOST_SKEW:
        way = "ahead of" if facts.skew > 0 else "behind"
        yield warning(
            "clock",
            f"this host's clock is {abs(facts.skew):.0f} s {way} the store's",
            f"run a time service on both; {CLOCKS}",
        )
    apart = {host: seconds for host, seconds in sorted(facts.clocks.items()) if abs(seconds) > MOST_SKEW}
    if apart:
        told = [f"{host} ({abs(s):.0f} s {'ahead' if s > 0 else 'behind'})" for host, s in apart.items()]
        yield warning(
            "clock",
            f"the clocks of this host and of {', '.join(told)} differ",
            f"run a time service on all hosts; {CLOCKS}",
        )
