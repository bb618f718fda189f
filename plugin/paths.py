"""Settings that are paths: text to value, or a ValueError that ends the sentence "FLANNELPY_X is 'text': ..."."""

from pathlib import Path

SOCKET = "/run/docker/plugins/flannelpy.sock"  # where dockerd looks for a driver of this name
_LONGEST_SOCKET_PATH = 107  # bytes: sockaddr_un's sun_path without its final zero


def parse_paths(text: str) -> tuple[Path, ...]:
    paths = tuple(parse_path(part.strip()) for part in text.split(","))
    for path in paths:
        if len(bytes(path)) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"a socket's path has at most {_LONGEST_SOCKET_PATH} bytes")
    if len(set(paths)) < len(paths):
        raise ValueError("it names the same path twice")
    return paths


def parse_path(text: str) -> Path:
    if not text.startswith("/") or "\0" in text or ".." in text.split("/") or text.endswith("/"):
        raise ValueError("it must be an absolute path")
    return Path(text)
