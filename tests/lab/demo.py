"""`make demo`: two Docker hosts, a Consul and flannelpy on this machine, shown at work, and gone afterwards.

What stands after a prompt is typed just so into a shell on that host; what follows is what it answered."""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab import requirements
from tests.lab.consul import BINARY
from tests.lab.docker_host import FLANNELPY, DockerHost
from tests.lab.engines import docker_command
from tests.lab.lab import Lab

GAP = " " * 4
ON = f"\\\n{GAP * 2}"  # a command goes on in the next line
WEB, LAN, LATE = "10.240.0.0/18", "10.241.0.0/18", "10.242.0.0/18"
CREATE = f"docker network create -d flannelpy --ipam-driver flannelpy {ON}"
HTTPD = "sh -c 'echo hello from web1 >/tmp/index.html; exec httpd -f -h /tmp'"
ADDRESS = "docker inspect -f '{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}' {container}"
KEYS = "consul kv get -keys -separator= flannelpy/"


class Failed(Exception):
    """A step did not go as it should; the text is for the person who looks on."""


class Screen:
    """What the person sees: headings, sentences, commands and their answers."""

    def __init__(self, colours: bool, columns: int) -> None:
        self._colours, self._width, self._steps = colours, min(max(columns, 80), 100) - 1, 0
        self.step = "the start"

    def heading(self, text: str) -> None:
        self._steps += 1
        self.step = f"step {self._steps}, {text!r}"
        rule = "-" * (self._width - len(text) - 5)
        self._write(f"\n{self._styled('1;36', f'{self._steps:>2}. {text}')} {self._styled('2', rule)}\n")

    def say(self, text: str) -> None:
        self._write(textwrap.fill(text, self._width, initial_indent=GAP, subsequent_indent=GAP) + "\n")

    def command(self, where: str, line: str) -> None:
        self._write(f"{GAP}{self._styled('32', f'{where}#')} {self._styled('1', line)}")

    def answer(self, text: str) -> None:
        lines = text.splitlines() or [self._styled("2", "(nothing)")]
        self._write("\n".join(map(self._fitted, lines)) + "\n")

    def _fitted(self, line: str) -> str:
        """In the columns that there are; what does not fit goes on below."""
        return textwrap.fill(
            *(line, self._width),
            initial_indent=GAP,
            subsequent_indent=GAP * 2,
            drop_whitespace=False,
            break_on_hyphens=False,
        )

    def _styled(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def _write(self, text: str) -> None:
        print(text, flush=True)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A shell on one host, with docker, consul and ip at hand."""

    name: str
    host: DockerHost
    screen: Screen
    store: str

    def type(self, line: str, *, keep: Callable[[str], bool] | None = None, fails: bool = False) -> str:
        """Show the command, run it, show its answer (the lines to `keep`), and return all of that."""
        self.screen.command(self.name, line)
        answer = self.run(line, fails=fails)
        self.screen.answer("\n".join(filter(keep, answer.splitlines())))
        return answer

    def run(self, line: str, *, fails: bool = False) -> str:
        """The same without a word. `fails` says that it must be refused."""
        done = self.host.attempt("env", *self._environment, "sh", "-c", f"cd {self.host.directory}; {line}")
        answer = f"{done.stdout}{done.stderr}".strip()
        if bool(done.returncode) != fails:
            how = "worked, which it should not have" if fails else f"ended with status {done.returncode}"
            raise Failed(f"`{line}` on {self.name} {how}: {answer or 'not a word'}")
        return answer

    @property
    def _environment(self) -> tuple[str, ...]:
        programs = (Path(docker_command()).parent, BINARY.parent, FLANNELPY.parent, os.environ.get("PATH", os.defpath))
        return (
            f"PATH={':'.join(map(str, programs))}",
            f"DOCKER_CONFIG={self.host.directory / 'docker-cli'}",
            f"CONSUL_HTTP_ADDR={self.store.removeprefix('consul://')}",
        )


class Demo:
    """The steps, in order; each builds on the ones before."""

    def __init__(self, lab: Lab, screen: Screen) -> None:
        self._lab, self._screen = lab, screen
        one, two = lab.hosts
        self._one = Prompt("host1", one, screen, lab.consul.url)
        self._two = Prompt("host2", two, screen, lab.consul.url)
        self._address: dict[str, str] = {}

    def run(self) -> None:
        for step in (
            *(self._hosts, self._network, self._containers, self._ping, self._ports, self._records, self._kernel),
            *(self._log, self._host_gw, self._outage, self._clean_up),
        ):
            step()

    def _hosts(self) -> None:
        self._screen.heading("Two Docker hosts and a Consul")
        self._screen.say(
            "Each host is a set of namespaces with its own network, its own dockerd and its own flannelpy. "
            f"They share a switch, and a Consul that flannelpy was told of by FLANNELPY_STORE={self._lab.consul.url}."
        )
        for number, prompt in enumerate((self._one, self._two), start=1):
            prompt.host.start_flannelpy({"FLANNELPY_STORE": self._lab.consul.url, "FLANNELPY_HOST": f"host{number}"})
            prompt.type("ip -brief -4 address show eth0; ls /run/docker/plugins")

    def _network(self) -> None:
        self._screen.heading("A network on both")
        self._screen.say("Typed alike on every host. The first one fixes what the others must agree with.")
        for prompt in (self._one, self._two):
            prompt.type(f"{CREATE}--subnet {WEB} web")

    def _containers(self) -> None:
        self._screen.heading("A container on each")
        self._screen.say("Each host gives out addresses of its own blocks, so it asks nobody and no two are the same.")
        self._one.type(f"docker run -d --name web1 --network web -p 8080:80 lab/busybox {ON}{HTTPD}")
        self._two.type("docker run -d --name web2 --network web lab/busybox sleep infinity")
        for prompt, container in ((self._one, "web1"), (self._two, "web2")):
            self._address[container] = prompt.type(ADDRESS.format(network="web", container=container))
        self._screen.say("Inside, the pool lies behind a gateway that is the same on every host. The rest is Docker's.")
        self._one.type("docker exec web1 ip route")

    def _ping(self) -> None:
        self._screen.heading("They reach each other")
        self._one.type(f"docker exec web1 ping -c 2 {self._address['web2']}", keep=is_ping_result)
        self._two.type(f"docker exec web2 ping -c 2 {self._address['web1']}", keep=is_ping_result)

    def _ports(self) -> None:
        self._screen.heading("Published ports are Docker's own, and docker ps shows them")
        self._one.type("docker ps --format 'table {{.Names}}\\t{{.Networks}}\\t{{.Ports}}'")
        self._two.type(f"busybox wget -qO- http://{self._one.host.address}:8080/")
        self._two.type(f"docker exec web2 wget -qO- http://{self._address['web1']}/")

    def _records(self) -> None:
        self._screen.heading("What the hosts agree on, in Consul")
        self._screen.say(
            "One key for each block a host holds, none for a container; who has what is one record a block."
        )
        self._one.type(KEYS)
        self._one.type(f"consul kv get flannelpy/pools/{WEB.replace('/', '-')}/network")
        block = next(key for key in self._one.run(KEYS).splitlines() if "/blocks/" in key)
        self._one.type(f"consul kv get {block}")

    def _kernel(self) -> None:
        self._screen.heading("What flannelpy made in the kernel")
        self._screen.say(
            "One route, one neighbour and one forwarding entry for the other host, and a route for each container here."
        )
        record = json.loads(self._one.run(f"consul kv get flannelpy/pools/{WEB.replace('/', '-')}/network"))
        self._one.type("ip route show proto 102")
        self._one.type(f"ip neigh show dev fl.{record['vni']} nud permanent")
        self._one.type(f"bridge fdb show dev fl.{record['vni']}")

    def _log(self) -> None:
        self._screen.heading("The log says the same, as it was done")
        self._one.type("grep ' + ' flannelpy.log | cut -c 31-")

    def _host_gw(self) -> None:
        self._screen.heading("A second network without a tunnel")
        self._screen.say("Where hosts share a link, host-gw needs one plain route for each block, and no byte more.")
        for prompt, container in ((self._one, "web1"), (self._two, "web2")):
            prompt.type(f"{CREATE}--subnet {LAN} -o backend=host-gw lan")
            prompt.type(f"docker network connect lan {container}")
        there = self._two.run(ADDRESS.format(network="lan", container="web2"))
        self._one.type(f"docker exec web1 ping -c 2 {there}", keep=is_ping_result)
        self._one.type("ip route show proto 102 dev eth0")
        self._screen.say("So its packets are as large as the link's. Those of web leave 50 bytes to the tunnel.")
        self._one.type("docker exec web1 ip link | grep -o 'eth[02].*mtu [0-9]*'")

    def _outage(self) -> None:
        self._screen.heading("Consul dies")
        self._screen.say("Killed, not stopped. What runs goes on:")
        self._lab.consul.kill()
        self._one.type(f"docker exec web1 ping -c 2 {self._address['web2']}", keep=is_ping_result)
        self._screen.say("A new container starts, on an address of a block that the host holds already:")
        self._one.type("docker run -d --name web3 --network web lab/busybox sleep infinity")
        self._one.type(f"docker exec web3 ping -c 2 {self._address['web2']}", keep=is_ping_result)
        self._screen.say("Only what needs the cluster is refused:")
        self._one.type(f"{CREATE}--subnet {LATE} late", fails=True)

    def _clean_up(self) -> None:
        self._screen.heading("Consul is back, everything is removed")
        self._lab.consul.start()
        for prompt in (self._one, self._two):
            prompt.type("docker rm -f $(docker ps -aq); docker network rm web lan")
        self._screen.say("Each host gives back its lease, as before it is shut down for good:")
        for prompt in (self._one, self._two):
            prompt.type("flannelpy leave")
        self._screen.say(
            "Nothing of ours is left: no link, route, rule or key, but for the feed of what changed last, and the "
            "store's epoch."
        )
        ours = f"iptables -S | grep flannelpy; ip -brief link | grep ^fl; {ON}ip route show proto 102"
        left = [self._one.type(ours), self._two.type(ours), self._one.type(f"{KEYS} | sed '/feed/d; /epoch/d'")]
        if any(left):
            raise Failed("something of flannelpy was left behind: see the last three answers")


def is_ping_result(line: str) -> bool:
    return "bytes from" in line or "packets" in line


def main() -> int:
    if sentence := requirements.missing():
        print(sentence, file=sys.stderr)
        return 1
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    began, screen, lab = time.monotonic(), Screen(colours, shutil.get_terminal_size().columns), Lab(hosts=2)
    try:
        with lab:
            Demo(lab, screen).run()
    except KeyboardInterrupt:
        print(f"\nInterrupted at {screen.step}. {remains(lab)}", file=sys.stderr)
        return 130
    except Exception as error:
        print("\n".join(getattr(error, "__notes__", [])), file=sys.stderr)
        print(f"\nThe demo failed at {screen.step}: {error}\n{remains(lab)}", file=sys.stderr)
        return 1
    screen.say(f"That took {time.monotonic() - began:.0f} s. {remains(lab)}")
    return 0


def remains(lab: Lab) -> str:
    """A lab removes its folder last."""
    if lab.directory.exists():
        return f"The hosts could not be removed from this machine; the next run tries again ({lab.directory})."
    return "The hosts and Consul are gone from this machine."


if __name__ == "__main__":
    sys.exit(main())
