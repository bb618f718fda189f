"""A request's bytes to a checked structure. Knows JSON, and no word of Docker's."""

import json
import re
import reprlib
from contextlib import suppress
from typing import Annotated, Any, TypeVar

import msgspec

MAX_BODY = 16 << 20  # Docker lists every single port of `-p 1-65535:1-65535`, and again of the other protocol
MAX_TEXT = 1024

Text = Annotated[
    str, msgspec.Meta(max_length=MAX_TEXT, pattern="\\A[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*\\Z")
]
Structure = TypeVar("Structure", bound=msgspec.Struct)

_EXPECTED = re.compile(r"Expected `(?P<wanted>\w+)[^`]*`, got `(?P<got>\w+)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a map",
    "null": "null",
}


class Malformed(Exception):
    """The request is not what Docker's protocol says; the message is a sentence that names the field and its value."""


class Emptied(Malformed):
    """dockerd's retry of a broken call arrives without its body (moby#35459): nothing may happen."""


def decode(body: bytes, structure: type[Structure]) -> Structure:
    raw = _parse(body)
    try:
        return msgspec.convert(raw, structure)
    except msgspec.ValidationError as error:
        raise Malformed(_sentence(str(error), raw)) from None
    except UnicodeEncodeError:
        raise Malformed("The request has a key with half a character in it (a lone surrogate)") from None


def shown(value: object) -> str:
    """A value as an error message quotes it: at most 80 characters, and none that would disturb a terminal."""
    text = _Short().repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _parse(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY:
        raise Malformed(f"The request is larger than {MAX_BODY} bytes")
    if not body.strip():
        raise Emptied("The request has no body, but this call needs one")
    try:
        raw = json.loads(body.decode(), object_pairs_hook=_without_repetition, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise Malformed(f"The request is not UTF-8 (at byte {error.start})") from None
    except RecursionError:
        raise Malformed("The request is nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"The request is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise Malformed(f"The request must be a JSON map, not {shown(raw)}")
    return raw


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise Malformed(f"The request says {shown(key)} twice")
        members[key] = value
    return members


def _refuse_constant(name: str) -> None:
    raise Malformed(f"The request is not JSON: it has the value {name}")


def _sentence(error: str, raw: dict[str, Any]) -> str:
    """msgspec's message in our words, with the value. Its paths look like `$.IPv4Data[1].Pool` and `$.Options[...]`."""
    what, _, place = error.partition(" - at ")
    path = place.rpartition("`$.")[2].rstrip("`")
    if missing := _MISSING.fullmatch(what):
        return f"{path + '.' if path else ''}{missing['name']} is missing"
    if place.startswith("`key`"):
        return f"A key of {path} is not usable: at most {MAX_TEXT} characters, no control characters"
    value = _follow(raw, path)
    if expected := _EXPECTED.fullmatch(what):
        return f"{path} must be {_WORDS[expected['wanted']]}, not {_WORDS[expected['got']]}: {shown(value)}"
    if "of length" in what:
        return f"{path} is longer than {MAX_TEXT} characters: {shown(value)}"
    return f"{path} has control characters in it: {shown(value)}"


def _follow(value: Any, path: str) -> object:
    """The value at msgspec's path; where that says `[...]` (some value of a map) the map itself."""
    if path in ("", "[...]"):
        return value
    if isinstance(value, list):
        index, _, rest = path[1:].partition("]")
        return _follow(value[int(index)], rest.removeprefix("."))
    if isinstance(value, dict):
        for key in value:  # a path does not tell where a key ends: keys have dots in them, too
            if path == key or path.startswith((f"{key}.", f"{key}[")):
                with suppress(LookupError, ValueError):
                    return _follow(value[key], path[len(key) :].removeprefix("."))
    raise LookupError(path)


class _Short(reprlib.Repr):
    """Quotes the beginning of a value, at little cost whatever its size, and in JSON's words."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 78, 78, 78

    def repr_bool(self, value: bool, _level: int) -> str:
        return "true" if value else "false"

    def repr_NoneType(self, _value: None, _level: int) -> str:  # noqa: N802, reprlib finds it by the type's name
        return "null"
