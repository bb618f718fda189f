"""The loop that keeps the kernel as it should be: wait, read, compare, repair, for ever."""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from driver.backends import BACKENDS
from driver.backends.interface import Remote, Underlay
from driver.doors import Door, Doors
from driver.entries import AnyRoute, Key
from driver.errors import KernelError
from driver.fast_path import tracking
from driver.fast_path.ability import Ability
from driver.fast_path.wanted import of_links
from driver.forwarding import Forwarding
from driver.goal import LocalNetwork, endpoint_objects, goal, too_narrow
from driver.journal import Journal
from driver.kernel import Kernel
from driver.model import Endpoint, Network
from driver.plan import Operation, Put, applied, plan
from driver.state import EndpointLink, FastPath, Object, State
from driver.view import View
from store.ip import IPAddress

log = logging.getLogger(__name__)

SWEEP = 10.0  # seconds between two passes when nobody asks for one
ROUNDS = 3  # a dropped link takes its routes along, so one pass may need a second look
MOST_TOLD = 100  # operations: what is more than these is told in one line
PATIENCE = 5.0  # seconds that a request waits for its pass
AGAIN = 1.0  # seconds until a pass that broke off is tried again
INSISTENT = 1.0  # seconds: a route that is replaced again so soon has somebody who would do it for ever


class _Right(NamedTuple):
    """A look that found the kernel as it should be. Where nothing of it has changed, no goal need be computed."""

    asked: tuple[Underlay | None, bool, list[LocalNetwork]]  # what the goal followed from
    seen: State
    equal: State  # the same in the goal's own objects, where it has them: comparing with the next goal takes no time


class Reconciler:
    def __init__(
        self,
        journal: Journal,
        host: str,
        view: Callable[[], View | None],
        dev: str | None,
        advertised: tuple[IPAddress, ...],
        doors: Sequence[Door] = (),
        resolvers: Sequence[IPAddress] = (),
        open_kernel: Callable[[], Kernel] = Kernel,
        moved: Callable[[], object] = lambda: None,
    ) -> None:
        """`view` gives what is known of the other hosts; `dev` and `advertised` are the settings of the underlay;
        `doors` are those beside the kernel's; `resolvers` are where containers ask for names; `moved` hears that other
        hosts must send elsewhere from now on."""
        self._journal, self._host, self._view = journal, host, view
        self._dev, self._advertised, self._doors, self._open_kernel = dev, advertised, doors, open_kernel
        self._resolvers, self._ability = resolvers, Ability()
        self._wanted = threading.Condition()
        self._asked = self._done = 0
        self._stopping = False
        self._look = True  # whether the next pass must look at the kernel
        self._look_at_rules = False
        self._known: dict[Key, Object] | None = None  # where the kernel stands, if it was as it should be
        self._desired: State = {}  # the last goal
        self._back_at: dict[Key, float] = {}  # when a route that was lost was put back
        self._right: _Right | None = None
        self._last_put: set[Object] = set()  # by the last operations, of which the kernel may not yet have told
        self._kernel: Kernel | None = None
        self._sweep_at = 0.0
        self._errors: list[str] = []
        self._broke_off = False  # the last pass: nothing is known to be as it should be
        self._underlay: Underlay | None = None
        self.underlay_fault = ""  # why the last pass found none
        self._last_underlay: Underlay | None = None
        self._moved = moved
        self._forwarding = Forwarding()
        self.passes, self.pass_seconds, self.repairs = 0, 0.0, 0  # since the start
        self._ended = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._wanted:
            self._stopping = True
            self._wanted.notify_all()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def poke(self) -> int:
        """Ask for a pass soon that looks at the kernel; returns its number."""
        return self._ask(look=True)

    def view_changed(self) -> None:
        """Ask for a pass soon. What other hosts say does not change this host's kernel, so where that stands is known
        from the last pass; whether it was so is for the sweep."""
        self._ask(look=False)

    def rules_changed(self) -> None:
        """Ask for a pass soon that looks at rules, if it was not us who changed them."""
        if self._forwarding.disturbed():
            self._ask(look=False, rules=True)

    def _ask(self, *, look: bool, rules: bool = False) -> int:
        with self._wanted:
            self._asked += 1
            self._look |= look
            self._look_at_rules |= rules
            self._wanted.notify_all()
            return self._asked

    # what of the kernel's news is of interest, for any thread (driver/kernel/notices.py, Concerns)

    def expects(self, o: Object) -> bool:
        """Whether it is as the last operations made it, as the last look found it to be right, or as a container's link
        is made when it comes."""
        known = self._known
        return o in self._last_put or (known is not None and known.get(o.key) == o) or o in self._of_endpoint(o.dev)

    def keeps(self, key: Key) -> bool:
        """Whether there should be an object of that key, however it is."""
        return key in self._desired

    def attached(self, link: str) -> bool:
        return self._journal.has_link(link)

    @property
    def uplinks(self) -> Collection[str]:
        """As last seen, and the one that was asked for."""
        seen = self._last_underlay
        return {*(seen.uplinks if seen else ()), *([self._dev] if self._dev else ())}

    def _of_endpoint(self, dev: str) -> list[Object]:
        networks = {network.id: network for network in self._journal.networks()}
        return [
            o
            for endpoint in self._journal.all_endpoints()
            if endpoint.host_link == dev and endpoint.network_id in networks
            for o in endpoint_objects(networks[endpoint.network_id], endpoint, endpoint.mtu or 0)
        ]

    def settle(self, about: Collection[str]) -> None:
        """Wait for a pass that begins after this call; KernelError if it broke off, or failed on something that names
        one of `about`, which are links."""
        number = self.poke()
        with self._wanted:
            if not self._wanted.wait_for(lambda: self._done >= number or self._stopping, PATIENCE):
                raise KernelError(f"the kernel's state was not settled in {PATIENCE:.0f} s; see the log of flannelpy")
            errors = [error for error in self._errors if self._broke_off or _words(error) & set(about)]
        if errors:
            raise KernelError(errors[0])

    def idle(self) -> float:
        """Seconds since the last pass ended; a healthy loop makes one every SWEEP seconds."""
        return time.monotonic() - self._ended

    def faults(self) -> list[str]:
        """What the last pass could not bring to what it should be, in sentences."""
        with self._wanted:
            return list(self._errors)

    @property
    def underlay_seen(self) -> Underlay | None:
        """As the last pass found it, None if it found none."""
        return self._underlay

    def underlay(self) -> Underlay:
        """As the last pass found it: the kernel tells of changes, and a pass follows. Asking it takes too long for a
        request, the longer the more containers there are."""
        if self._underlay is not None:
            return self._underlay
        with self._open_kernel() as kernel:
            return kernel.underlay(self._dev, self._advertised)

    def fast_path(self, endpoint: Endpoint) -> FastPath | None:
        """What a container's link gets beside what attaches it; None if its packets go the ordinary way."""
        underlay = self._underlay
        if underlay is None or not self._ability.works:
            return None
        networks = ((network, list(self._journal.endpoints(network.id))) for network in self._journal.networks())
        return next((o for o in of_links(underlay, networks) if o.dev == endpoint.host_link), None)

    def _run(self) -> None:
        while not self._stopping:
            with self._wanted:
                number, look, self._look = self._asked, self._look, False
                rules, self._look_at_rules = self._look_at_rules, False
            began = time.monotonic()
            errors = self._safe_pass(look or began >= self._sweep_at, rules)
            with self._wanted:
                self._ended = time.monotonic()
                self.passes, self.pass_seconds = self.passes + 1, self.pass_seconds + self._ended - began
                self._report(errors)
                self._errors, self._done = errors, number
                self._wanted.notify_all()
                left = self._sweep_at - time.monotonic()
                self._wanted.wait_for(lambda: self._asked > self._done or self._stopping, max(left, 0))
        self._forget_kernel()

    def _safe_pass(self, look: bool, rules: bool) -> list[str]:
        try:
            if self._kernel is None:
                self._kernel = self._open_kernel()
            errors = self._pass(self._kernel, look, rules)
            self._broke_off = False
            return errors
        except KernelError as error:
            self._break_off()
            return [str(error)]
        except Exception as error:  # the loop must live: what broke one pass is logged and tried again
            log.exception("a pass of the reconciler failed")
            self._break_off()
            return [f"internal error: {error}"]

    def _break_off(self) -> None:
        self._broke_off, self._sweep_at = True, time.monotonic() + AGAIN
        self._forget_kernel()

    def _forget_kernel(self) -> None:
        self._known = None
        kernel, self._kernel = self._kernel, None
        try:
            if kernel is not None:
                kernel.close()
        except Exception:  # the loop must live: what broke may not even close
            log.exception("the door to the kernel does not close")

    def _report(self, errors: Collection[str]) -> None:
        for error in errors:
            if error not in self._errors:
                log.error("not as it should be", extra={"why": error})

    def _pass(self, kernel: Kernel, look: bool, rules: bool) -> list[str]:
        """What is not as it should be, after doing what can be done about it."""
        doors = Doors(kernel, self._doors)
        errors: list[str] = []
        looks = look or self._known is None or not self._follow(doors, self._known)
        if looks:
            errors = self._repair(doors)
        networks = self._networks()
        errors += self._forwarding.settle(self._underlay, networks, look=looks or rules)
        if (underlay := self._underlay) is not None:
            errors += (text for local in networks for text in _refused(underlay, local.network, local.remotes or ()))
        return errors

    def _follow(self, doors: Doors, known: dict[Key, Object]) -> bool:
        """Do what the view asks for, from where the kernel was last known to be. False if that takes a look at it."""
        operations = plan(known, self._goal(self._admitted(), known))
        if any(operation.object.rank == 0 for operation in operations) or self._carry_out(doors, operations):
            return False
        self.repairs += len(operations)
        for operation in operations:
            applied(known, operation)
        return True

    def _repair(self, doors: Doors) -> list[str]:
        """Look at the kernel and make it as it should be; what could not be done."""
        began = time.monotonic()
        self._known, self._sweep_at = None, began + SWEEP
        self._back_at = {key: at for key, at in self._back_at.items() if began - at < INSISTENT}
        errors: list[str] = []
        self._find_underlay(doors.kernel, errors)
        if any(network.fast_path for network in self._journal.networks()):
            self._ability.look(doors.kernel)
        failed: dict[Operation, str] = {}
        for _ in range(ROUNDS):
            # The kernel first: whatever link is seen there has its record by the time the records are read.
            actual = doors.read()
            if doors.kernel.rename_back(self._missing(actual)):
                actual = doors.read()
            asked = self._underlay, self._ability.works, self._admitted()
            if self._right and (self._right.asked, self._right.seen) == (asked, actual):  # as nearly always
                self._known = dict(self._right.equal)
                return errors
            desired = self._goal(asked[2], actual)
            operations = [self._put_back(operation, actual) for operation in plan(actual, desired)]
            if not operations:
                self._right = _Right(asked, actual, {**actual, **desired})
                self._known = dict(self._right.equal)
                return errors
            self.repairs += len(operations)
            failed = self._carry_out(doors, operations)
        # What failed because its link went away meanwhile is not wanted any more.
        actual = doors.read()
        operations = plan(actual, self._goal(self._networks(), actual))
        lasting = [operation for operation in operations if operation in failed]
        if slow := next((operation for operation in lasting if isinstance(operation.object, FastPath)), None):
            self._ability.give_up(failed[slow])
        return errors + [failed[operation] for operation in lasting if not isinstance(operation.object, FastPath)]

    def _put_back(self, operation: Operation, actual: State) -> Operation:
        """A route that stood there when all was right takes its place back from whatever has taken it. Whoever insists
        is told of and not fought with at once: the next look after that takes it back."""
        o, right = operation.object, self._right
        if not isinstance(operation, Put) or not isinstance(o, AnyRoute) or o.key in actual:
            return operation
        if right is None or o.key not in right.seen:
            return operation
        now = time.monotonic()
        if now - self._back_at.get(o.key, -INSISTENT) < INSISTENT:
            return operation
        self._back_at[o.key] = now
        return Put(o, again=True)

    def _missing(self, actual: State) -> list[str]:
        """Links of containers that are not there, or not by their names."""
        links = (endpoint.host_link for endpoint in self._journal.all_endpoints())
        return [link for link in links if EndpointLink(link).key not in actual]

    def _carry_out(self, doors: Doors, operations: Sequence[Operation]) -> dict[Operation, str]:
        """What failed, and why."""
        self._last_put = {operation.object for operation in operations if isinstance(operation, Put)}
        failed = doors.apply_all(operations)
        done = [operation for operation in operations if operation not in failed]
        _tell(done)
        tracking.forget(done, self._journal.networks())
        return failed

    def _admitted(self) -> list[LocalNetwork]:
        """The networks as they are now. Who is new among their peers is let in before packets are sent there."""
        networks = self._networks()
        self._forwarding.admit(self._underlay, networks)
        return networks

    def _goal(self, networks: Sequence[LocalNetwork], actual: State) -> State:
        self._desired = goal(self._host, self._underlay, networks, actual, self._resolvers, fast=self._ability.works)
        return self._desired

    def _find_underlay(self, kernel: Kernel, errors: list[str]) -> None:
        try:
            self._underlay, self.underlay_fault = self._read_underlay(kernel), ""
        except KernelError as error:
            self._underlay, self.underlay_fault = None, str(error)
            errors.append(str(error))
        before, now = self._last_underlay, self._underlay
        self._last_underlay = now or before
        if now and (before is None or now.dev != before.dev):
            log.info("the way to other hosts", extra={"dev": now.dev, "addresses": ", ".join(map(str, now.addresses))})
        if now and before and (now.advertised, now.link) != (before.advertised, before.link):
            log.warning("reached elsewhere now", extra={"dev": now.dev, "addresses": now.advertised})
            self._moved()

    def _read_underlay(self, kernel: Kernel) -> Underlay:
        last = self._last_underlay
        kept = last.addresses if last else ()
        try:
            return kernel.underlay(self._dev, self._advertised, kept)
        except KernelError:
            # An interface that was down and up again has no default route until somebody gives it one.
            if self._dev or last is None:
                raise
            return kernel.underlay(last.dev, self._advertised, kept)

    def _networks(self) -> list[LocalNetwork]:
        view = self._view()
        return [
            LocalNetwork(
                network,
                tuple(self._journal.endpoints(network.id)),
                view.remotes(network, self._host) if view else None,
            )
            for network in self._journal.networks()
        ]


@lru_cache(16)
def _refused(underlay: Underlay, network: Network, remotes: tuple[Remote, ...]) -> tuple[str, ...]:
    """Why the network is not carried, or not to some peers."""
    backend, narrow = BACKENDS[network.backend], too_narrow(network, underlay)
    refusals = [narrow, *(backend.refusal(underlay, other) for other in remotes)]
    return tuple(f"network {network.pools[0]}: {refusal}" for refusal in refusals if refusal)


def _words(error: str) -> set[str]:
    """Of a link's name, so that fl.7 is not found in fl.77."""
    return set(re.split(r"[\s,:;]+", error))


def _tell(done: Sequence[Operation]) -> None:
    if len(done) > MOST_TOLD:
        kinds = Counter(f"{str(operation)[0]} {type(operation.object).__name__}" for operation in done)
        log.info("much changed at once", extra={"done": ", ".join(f"{n} {kind}" for kind, n in kinds.items())})
    else:
        for operation in done:
            log.info(str(operation))
