"""The store in Consul's key-value tree: what all hosts of a cluster agree on. Consul is spoken in this file only.

py-consul carries the requests (URLs, TLS, time-outs) through its `HTTPClient`. Its `KV` and `Txn` classes are not
used: `Txn` sends no token, a transaction that lost a race is an exception to be parsed from a text, `KV` hides the
headers that tell "nothing there" from "nothing shown to you", and `Consul` lets CONSUL_HTTP_TOKEN override the token
it is given.

A key of ours is `root` + "/" + key in Consul. Versions are Consul's ModifyIndex, a snapshot's is X-Consul-Index.

A commit whose answer was lost (StoreUnavailable) may have happened. Repeating it then loses to itself and answers
False, since the keys are no longer where they were. So read them first, and compare with what was to be written."""

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from consul.base import Response
from consul.std import HTTPClient

from store.catalog import TAGS, Service, registration
from store.connections import Connections, Traffic
from store.credentials import checked_token, read_credentials, read_token
from store.interface import Change, Check, Delete, Entry, Put, Snapshot, StoreForbidden, StoreUnavailable
from store.ip import IPAddress
from store.rules import check_changes, check_key, check_prefix

TIMEOUT = 5.0  # seconds for an ordinary answer, and beyond the agreed time for a blocking query's
JITTER = 16 / 17  # Consul adds up to a sixteenth to a blocking query's time
TXN = "/v1/txn"
REFUSED = (401, 403)
# A leader that was just elected may not have applied all that was acknowledged before, and one that was deposed may
# not know it; so asked, neither answers before it is sure.
CURRENT = ("consistent", "1")

# How Consul words a lost race (agent/consul/state/txn.go, the same from 1.8 on). Keys are Go-quoted in between.
LOST_RACE = re.compile(
    r'failed to (set|delete) key ".*", index is stale'
    r'|failed index check for key ".*", current modify index \d+ != \d+'
    r'|failed to check index, key ".*" doesn\'t exist'
    r'|key ".*" exists'
)
CATALOG_RULE = 'node_prefix "flannelpy-" { policy = "write" } and service "NAME" { policy = "write" }'
BURST, GAP = 10, 0.1  # a prefix is asked for ten times at once, then ten times a second

T = TypeVar("T")


class _Item(msgspec.Struct):
    """One key as Consul lists it; msgspec undoes the base64."""

    Key: str
    Value: bytes | None
    ModifyIndex: int


class _TaggedAddress(msgspec.Struct):
    Address: str


class _CatalogService(msgspec.Struct):
    ID: str
    Service: str
    Address: str
    Port: int
    TaggedAddresses: dict[str, _TaggedAddress] | None = None

    def addresses(self) -> tuple[IPAddress, ...]:
        tagged = [(self.TaggedAddresses or {}).get(tag) for tag in TAGS.values()]
        return tuple(dict.fromkeys(ip_address(each) for each in (self.Address, *(t.Address for t in tagged if t))))


class _CatalogNode(msgspec.Struct):
    Services: list[_CatalogService] | None


class _OperationError(msgspec.Struct):
    OpIndex: int
    What: str


class _TxnAnswer(msgspec.Struct):
    Results: list[Any] | None
    Errors: list[_OperationError] | None


class Pace:
    """When a watch may ask again. Not locked: a lost update costs one question too many."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, now: float) -> float:
        """Seconds to let pass before the next question, which is taken to be asked then."""
        turn = max(self._next, now - BURST * GAP)
        self._next = turn + GAP
        return max(turn - now, 0.0)


class ConsulStore:
    """A client of one Consul agent. Safe for many threads; `close` it."""

    def __init__(
        self,
        url: str,
        root: str,
        *,
        token: str | None = None,
        ca: str | None = None,
        cert: tuple[str, str] | None = None,
        timeout: float = TIMEOUT,
        next_token: Callable[[], str | None] | None = None,
    ) -> None:
        """Nothing is sent yet. `ca` and `cert` (certificate, key) are PEM files for consuls://. `next_token` is asked
        when Consul refuses the one that it was shown.

        ValueError when `url`, `root` or `token` is not of the right form."""
        scheme, host, port = parse_url(url)
        check_key(root)
        self._url, self._root, self._timeout = url, root, timeout
        self._headers = _showing(checked_token(token))
        self._next_token = next_token or (lambda: token)
        self._http = HTTPClient(host, port, scheme, ca or True, cert, connections_timeout=timeout)
        self._connections = Connections(timeout)
        self._http.session.mount(f"{scheme}://", self._connections)
        self._http.session.trust_env = False  # an http_proxy is not meant for the agent, nor a .netrc
        self._http.session.max_redirects = 0  # an agent has no reason to, and the token is for it alone
        self._paces: dict[str, Pace] = {}
        self._closed = threading.Event()
        self.skew: float | None = None  # seconds this host's clock is ahead of Consul's, by its last answer

    @classmethod
    def from_url(cls, url: str, *, root: str, environ: Mapping[str, str]) -> "ConsulStore":
        """A store set up by Consul's own variables in `environ`. ValueError names the one that is wrong."""
        shown = read_credentials(environ)
        again = partial(read_token, environ)
        return cls(url, root, token=shown.token, ca=shown.ca, cert=shown.certificate, next_token=again)

    def get(self, key: str) -> Entry | None:
        check_key(key)
        response = self._get(key, [CURRENT])
        self._index(response)
        return self._entries(response).get(key)

    def read(self, prefix: str) -> Snapshot:
        check_prefix(prefix)
        return self._list(prefix, [CURRENT])

    def wait(self, prefix: str, after: int, timeout: float) -> Snapshot:
        """As the interface says; up to 10 minutes (Consul's own limit), and TIMEOUT more when Consul is stuck.

        No tight loop comes of calling this for ever: it spaces its questions itself, ten a second.
        An empty prefix has no index of its own: then any write in Consul ends the wait."""
        if after < 1:
            return self.read(prefix)
        check_prefix(prefix)
        deadline = time.monotonic() + timeout
        pace = self._paces.setdefault(prefix, Pace())
        self._closed.wait(min(pace.delay(time.monotonic()), timeout))
        left = max(deadline - time.monotonic(), 0.001)
        snapshot = self._list(prefix, [("index", str(after)), ("wait", f"{left * JITTER * 1000:.0f}ms")])
        if snapshot.version < after:  # Consul was restored, or forgot old deletions: begin again
            return Snapshot(snapshot.entries, version=0)
        return snapshot

    def commit(self, *changes: Change) -> bool:
        check_changes(changes)
        if not changes:
            return True
        body = msgspec.json.encode([operation(self._root, change) for change in changes])
        only_checks = all(isinstance(change, Check) for change in changes)
        params = [CURRENT] if only_checks else []  # without a write it is a read
        response = self._ask(self._http.put, TXN, params=params, data=body)
        answer = self._decode(response, _TxnAnswer)
        if response.code == 200:
            return True
        self._insist_on_lost_race([error.What for error in answer.Errors or []])
        return False

    # the catalog (store/catalog.py)

    def services(self, node: str) -> dict[str, Service]:
        # Not catalog/node: Consul 1.8 takes the id for the name there when it looks what a token may see.
        response = self._ask(self._http.get, f"/v1/catalog/node-services/{node}", params=[], rule=CATALOG_RULE)
        found = self._decode(response, _CatalogNode).Services or []  # null for a node that is not there
        return {one.ID: Service(one.Service, one.addresses(), one.Port) for one in found}

    def register(self, node: str, address: IPAddress, service_id: str, service: Service) -> None:
        body = msgspec.json.encode(registration(node, address, service_id, service))
        self._ask(self._http.put, "/v1/catalog/register", params=[], data=body, rule=CATALOG_RULE)

    def deregister(self, node: str, service_id: str | None = None) -> None:
        body = msgspec.json.encode({"Node": node, **({"ServiceID": service_id} if service_id else {})})
        self._ask(self._http.put, "/v1/catalog/deregister", params=[], data=body, rule=CATALOG_RULE)

    def close(self) -> None:
        """End every request under way; any later call raises StoreUnavailable."""
        self._closed.set()
        self._connections.end()
        self._http.session.close()

    def reconnect(self) -> None:
        self._connections.renew()

    def exchanged(self) -> Traffic:
        return self._connections.exchanged()

    def _list(self, prefix: str, params: list[tuple[str, str]]) -> Snapshot:
        response = self._get(prefix, [("recurse", "1"), *params])
        version, entries = self._index(response), self._entries(response)
        if not entries:
            # What a token may not list is left out, silently before Consul 1.11; asked for one key, Consul says so.
            self._get(prefix, [])
        return Snapshot(entries, version)

    def _get(self, name: str, params: list[tuple[str, str]]) -> Response:
        renewals = self._connections.renewals
        try:
            return self._ask(self._http.get, f"/v1/kv/{self._root}/{name}", params=params)
        except StoreUnavailable:
            if self._connections.renewals == renewals:
                raise
        return self._ask(self._http.get, f"/v1/kv/{self._root}/{name}", params=params)

    def _ask(self, method: Callable[..., Response], path: str, rule: str | None = None, **request: Any) -> Response:
        """One request and its answer, with status 200, 404 (no such key) or 409 (transaction undone)."""
        shown = self._headers
        response = self._sent(method, path, shown, request)
        if response.code in REFUSED and (renewed := self._renewed(shown)):
            response = self._sent(method, path, renewed, request)
        if response.code in REFUSED:
            raise self._forbidden(response.body, rule)
        if response.code not in (200, 404, 409):
            raise StoreUnavailable(f"Consul at {self._url} answered {response.code}: {shortened(response.body)}")
        if response.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
            raise self._forbidden("it left out keys this token may not read", rule)
        return response

    def _sent(
        self, method: Callable[..., Response], path: str, headers: Mapping[str, str], request: Mapping[str, Any]
    ) -> Response:
        if self._closed.is_set():
            raise StoreUnavailable(f"Consul at {self._url}: the store is closed")
        try:
            response = method(lambda response: response, path, headers=headers, **request)
        except (OSError, ValueError) as error:  # what requests raises, is and contains
            cause = innermost(error)
            if isinstance(error, requests.Timeout) and getattr(cause, "errno", None) is None:  # not the kernel's
                limit = self._http.timeout(request["params"])
                raise StoreUnavailable(f"Consul at {self._url} did not answer within {limit:.3g} s") from error
            said = getattr(cause, "strerror", None) or str(cause)
            reason = "the store is closed" if self._closed.is_set() else said
            raise StoreUnavailable(f"Consul at {self._url} cannot be reached: {reason}") from error
        self.skew = ahead_of(response.headers.get("Date"), time.time(), self.skew)
        return response

    def _renewed(self, refused: Mapping[str, str]) -> Mapping[str, str] | None:
        """What to show instead: a token that ends is replaced in its file. None if there is no other."""
        with suppress(ValueError):  # it is being written at this moment
            self._headers = _showing(self._next_token())
        return self._headers if self._headers != refused else None

    def _entries(self, response: Response) -> dict[str, Entry]:
        if response.code == 404:
            return {}
        items = self._decode(response, list[_Item])
        return {item.Key.removeprefix(f"{self._root}/"): Entry(item.Value or b"", item.ModifyIndex) for item in items}

    def _index(self, response: Response) -> int:
        try:
            return max(int(response.headers["X-Consul-Index"]), 1)
        except (KeyError, ValueError) as error:
            raise StoreUnavailable(f"{self._url} does not answer as Consul does: no X-Consul-Index") from error

    def _decode(self, response: Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.body, type=kind)
        except msgspec.MsgspecError as error:
            body = shortened(response.body)
            raise StoreUnavailable(f"{self._url} does not answer as Consul does ({error}): {body}") from error

    def _insist_on_lost_race(self, errors: Sequence[str]) -> None:
        """Raise what fits, unless every error of an undone transaction is a key not at its expected version."""
        for error in errors:
            if error.startswith("Permission denied"):
                raise self._forbidden(error)
        if not errors or not all(map(LOST_RACE.fullmatch, errors)):
            raise StoreUnavailable(f"Consul at {self._url} undid a transaction: {shortened('; '.join(errors))}")

    def _forbidden(self, what: str, rule: str | None = None) -> StoreForbidden:
        token = "the token exists and allows" if self._headers else "a token is set (CONSUL_HTTP_TOKEN) that allows"
        rule = rule or f'key_prefix "{self._root}/" {{ policy = "write" }}'
        return StoreForbidden(f"Consul at {self._url} refused ({shortened(what)}): see that {token} {rule}")


def _showing(token: str | None) -> Mapping[str, str]:
    return {"X-Consul-Token": token} if token else {}


def ahead_of(date: str | None, now: float, before: float | None) -> float | None:
    """How far the clock that says `now` is ahead of an answer's Date (RFC 9110, 5.6.7); `before` if it has none."""
    try:
        return now - parsedate_to_datetime(date).timestamp() if date else before
    except ValueError:
        return before


def parse_url(url: str) -> tuple[str, str, int]:
    """(http or https, host, port) of a consul:// or consuls:// url; IPv6 hosts keep their brackets."""
    wrong = ValueError(f"{url!r}: expected consul://HOST[:PORT] or consuls://HOST[:PORT], an IPv6 HOST in brackets")
    schemes = {"consul": ("http", 8500), "consuls": ("https", 8501)}
    try:
        parts = urlsplit(url)
        scheme, default_port = schemes[parts.scheme]
        host, port = parts.hostname, parts.port
    except (KeyError, ValueError) as error:
        raise wrong from error
    if not host or port == 0 or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise wrong
    return scheme, f"[{host}]" if ":" in host else host, port or default_port


def operation(root: str, change: Change) -> dict[str, Any]:
    """`change` as Consul's transactions word it; msgspec makes base64 of the value.

    `delete-cas` succeeds on a key already gone, as our Delete must."""
    match change:
        case Put():
            fields = {"Verb": "cas", "Value": change.value, "Index": change.expect}
        case Delete():
            fields = {"Verb": "delete-cas", "Index": change.expect}
        case Check(expect=0):
            fields = {"Verb": "check-not-exists"}
        case Check():
            fields = {"Verb": "check-index", "Index": change.expect}
    return {"KV": {"Key": f"{root}/{change.key}", **fields}}


def innermost(error: BaseException) -> BaseException:
    """The cause below requests' and urllib3's wrappings, which repeat the URL and hide what happened."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
