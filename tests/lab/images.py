"""The images the lab's containers run, built without a registry in the form that `docker load` takes.

`docker load` and not `docker import`: so every host has the same image under the same id, and both share one layer."""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.commands import run

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX, NET = "lab/busybox:latest", "lab/net:latest"
FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var", "var/run", "var/www")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Layer:
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class LayerTar:
    """A tar with nothing in it that differs from one build to the next."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._names: set[str] = set()

    def _add(self, name: str, kind: bytes, mode: int, *, data: bytes = b"", link: str = "") -> None:
        if name in self._names:
            return
        self._names.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), link
        self._tar.addfile(info, io.BytesIO(data))

    def folder(self, name: str) -> None:
        self._add(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        for parent in reversed(Path(name).parents[:-1]):
            self.folder(str(parent))
        self._add(name, tarfile.REGTYPE, mode, data=data)

    def link(self, name: str, target: str) -> None:
        self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def close(self) -> Layer:
        self._tar.close()
        return Layer(self._buffer.getvalue())


def program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed; run scripts/setup")
    return Path(found)


def libraries(binary: Path) -> list[Path]:
    """What the dynamic linker will look for, the linker itself included, where it will look."""
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", run("ldd", str(binary)))]


def busybox_layer() -> Layer:
    busybox, tar = program("busybox"), LayerTar()
    for folder in FOLDERS:
        tar.folder(folder)
    for name, text in FILES.items():
        tar.file(name, text.encode())
    tar.file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in run(str(busybox), "--list").split():
        tar.link(f"bin/{applet}", "busybox")
    return tar.close()


def net_layer() -> Layer:
    """iperf3 as this machine has it, with the libraries it asks for."""
    iperf3, tar = program("iperf3"), LayerTar()
    tar.file("usr/bin/iperf3", iperf3.read_bytes(), 0o755)
    for library in libraries(iperf3):
        tar.file(str(library).lstrip("/"), library.read_bytes(), 0o755)
    return tar.close()


def image_config(layers: Sequence[Layer]) -> bytes:
    return json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "lab"} for _ in layers],
        }
    ).encode()


def write_archive(path: Path, images: Mapping[str, Sequence[Layer]]) -> None:
    """The archive of `docker save`: a config per image, the layers, and a manifest that joins them."""
    tar, manifest = LayerTar(), []
    for tag, layers in images.items():
        config = image_config(layers)
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        tar.file(config_name, config)
        for layer in layers:
            tar.file(f"{layer.digest}/layer.tar", layer.data)
        names = [f"{layer.digest}/layer.tar" for layer in layers]
        manifest.append({"Config": config_name, "RepoTags": [tag], "Layers": names})
    tar.file("manifest.json", json.dumps(manifest).encode())
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_bytes(tar.close().data)
    scratch.rename(path)  # whoever looks sees a whole file or none


def archive() -> Path:
    """The archive of all images, built when there is none for this machine's programs and this file."""
    inputs = [program("busybox"), program("iperf3"), Path(__file__)]
    marks = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in inputs]
    path = ROOT / ".cache/images" / f"lab-{hashlib.sha256(repr(marks).encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in set(path.parent.glob("lab-*")) - {path}:
            old.unlink(missing_ok=True)
        base = busybox_layer()
        write_archive(path, {BUSYBOX: [base], NET: [base, net_layer()]})
    return path
