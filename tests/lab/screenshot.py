"""`make screenshot`: the page of a cluster that really runs, for the README.

Three Docker hosts, three networks and a dozen containers. With a folder named, also how it looks in the dark and on a
phone."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image  # comes with matplotlib

from tests import browser
from tests.lab import requirements
from tests.lab.cluster import FLANNELPY, side_by_side
from tests.lab.commands import wait_until
from tests.lab.docker_host import DockerHost
from tests.lab.images import ROOT
from tests.lab.lab import Lab

PAGE = "http://127.0.0.1:9470/"
PICTURE = ROOT / "docs/page.png"
NETWORKS = {
    "web": ("--subnet", "10.240.0.0/20"),
    "metrics": ("-o", "backend=host-gw", "--subnet", "10.241.0.0/22"),
    "db": ("-o", "backend=wireguard", "--internal", "--subnet", "10.242.0.0/23"),
}
CONTAINERS = (
    (("proxy", "web"), ("shop-1", "web"), ("exporter-1", "metrics"), ("postgres-1", "db")),
    (("shop-2", "web"), ("shop-3", "web"), ("search", "web"), ("exporter-2", "metrics"), ("postgres-2", "db")),
    (("shop-4", "web"), ("mail", "web"), ("prometheus", "metrics"), ("postgres-3", "db")),
)


@dataclass(frozen=True, slots=True)
class Shot:
    name: str
    size: tuple[int, int]
    dark: bool = False


OTHERS = (
    Shot("dark", (1180, 1920), dark=True),
    Shot("phone", (390, 2300)),
    Shot("phone-dark", (390, 2300), dark=True),
)


def populate(lab: Lab) -> None:
    for number, host in enumerate(lab.hosts, start=1):
        env = {"FLANNELPY_STORE": lab.consul.url, "FLANNELPY_HOST": f"host{number}", "FLANNELPY_PROPAGATE": "true"}
        host.start_flannelpy(env)
    for name, options in NETWORKS.items():
        lab.hosts[0].docker("network", "create", *FLANNELPY, *options, name)
    for host in lab.hosts:
        wait_until("the networks on all hosts", lambda host=host: has_all(host), timeout=20)  # type: ignore[misc]

    def run(pair: tuple[DockerHost, tuple[tuple[str, str], ...]]) -> None:
        for name, network in pair[1]:
            pair[0].run_container(name, "--network", network)

    side_by_side(run, zip(lab.hosts, CONTAINERS, strict=True))


def has_all(host: DockerHost) -> bool:
    return set(NETWORKS) <= set(host.docker("network", "ls", "--format", "{{.Name}}").split())


def is_whole(host: DockerHost) -> bool:
    """Whether all hosts have told of their containers, and of their own address in each network."""
    picture = json.loads(host.http(f"{PAGE}api/overview")[1])["picture"]
    wanted = sum(map(len, CONTAINERS)) + len(CONTAINERS) * len(NETWORKS)
    return (
        bool(picture)
        and picture["containers"] == sum(map(len, CONTAINERS))
        and sum(each["network"]["given"] for each in picture["networks"]) >= wanted
    )


def shrink(path: Path) -> None:
    """A palette instead of full colours: a third of the bytes, and no eye tells."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


def main(folder: Path | None) -> int:
    if sentence := requirements.missing():
        print(sentence, file=sys.stderr)
        return 1
    with Lab(hosts=3) as lab:
        populate(lab)
        host = lab.hosts[0]
        wait_until("the page to show all", lambda: is_whole(host), timeout=30)
        wanted = [(Shot("", (1180, 1920)), PICTURE)]
        wanted += [(shot, folder / f"page-{shot.name}.png") for shot in OTHERS if folder]
        for shot, path in wanted:
            browser.screenshot(PAGE, path, shot.size, dark=shot.dark, where=host.namespace.enter)
            shrink(path)
            print(f"{path}: {path.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else None))
