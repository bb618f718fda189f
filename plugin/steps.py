"""What an installation changes, as values: each prints as what an operator would type."""

import re
import shlex
from dataclasses import dataclass

_SECRET = re.compile(r"^([ \t]*\w*TOKEN[ \t]*=).+$", re.MULTILINE)  # CONSUL_HTTP_TOKEN_FILE only names a file


@dataclass(frozen=True, slots=True)
class Folder:
    path: str
    mode: int

    def __str__(self) -> str:
        return f"install -d -m {self.mode:04o} {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Write:
    path: str
    text: str
    mode: int | None = None  # None leaves it as it is

    def __str__(self) -> str:
        path, shown = shlex.quote(self.path), _SECRET.sub(r"\1(kept)", self.text)
        command = f"tee {path}" if self.mode is None else f"install -m {self.mode:04o} /dev/stdin {path}"
        return f"{command} <<'END'\n{shown}END"


@dataclass(frozen=True, slots=True)
class Remove:
    path: str

    def __str__(self) -> str:
        return f"rm {shlex.quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Systemctl:
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(("systemctl", *self.words))


Step = Folder | Write | Remove | Systemctl
