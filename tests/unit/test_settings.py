"""Settings: what is read, what is refused with which sentence, and that plugin.json offers the same."""

import json
from dataclasses import fields
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from driver import sysctl
from plugin import state_dir
from plugin.listening import Busy
from plugin.settings import PoolSource, Settings, SettingsError, StoreAddress

ROOT = Path(__file__).parents[2]
MANIFEST = json.loads((ROOT / "plugin.json").read_text())
NAMES = [f.metadata["env"] for f in fields(Settings)]


def test_nothing_set_means_the_defaults() -> None:
    assert Settings.read({"PATH": "/bin"}) == Settings()
    assert Settings().store == StoreAddress("sqlite")
    assert Settings().pools == (PoolSource(ip_network("10.224.0.0/11"), 18),)
    assert (Settings().block, Settings().backend, Settings().iface, Settings().address) == (26, "vxlan", None, ())


def test_an_empty_variable_counts_as_absent() -> None:
    assert Settings.read(dict.fromkeys(NAMES, "")) == Settings()


def test_everything_set() -> None:
    assert Settings.read(
        {
            "FLANNELPY_STORE": "consuls://[fd00::1]:8501",
            "FLANNELPY_CLUSTER": "prod/web",
            "FLANNELPY_HOST": "node-1.example",
            "FLANNELPY_IFACE": "eth0.7@if3",
            "FLANNELPY_ADDRESS": "192.0.2.1, 2001:db8::1",
            "FLANNELPY_POOLS": "10.0.0.0/8,size=20; fd00::/8,size=64",
            "FLANNELPY_BLOCK": "24",
            "FLANNELPY_BACKEND": "host-gw",
            "FLANNELPY_SOCKET": "/run/a.sock,/host/plugins/b.sock",
            "FLANNELPY_STATE_DIR": "/srv/flannelpy",
            "FLANNELPY_LOG": "debug",
        }
    ) == Settings(
        store=StoreAddress("consuls", "fd00::1", 8501),
        cluster="prod/web",
        host="node-1.example",
        iface="eth0.7@if3",
        address=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        pools=(PoolSource(ip_network("10.0.0.0/8"), 20), PoolSource(ip_network("fd00::/8"), 64)),
        block=24,
        backend="host-gw",
        socket=(Path("/run/a.sock"), Path("/host/plugins/b.sock")),
        state_dir=Path("/srv/flannelpy"),
        log="debug",
    )


def test_the_resolver_has_an_address_of_each_family_unless_told_otherwise() -> None:
    assert Settings().dns == (ip_address("169.254.53.53"), ip_address("fda9:fe35:35::53"))
    assert Settings.read({"FLANNELPY_DNS": "169.254.53.54"}).dns == (ip_address("169.254.53.54"),)
    assert Settings.read({"FLANNELPY_DNS": "off"}).dns == ()


def test_consul_has_its_usual_ports() -> None:
    assert str(Settings.read({"FLANNELPY_STORE": "consul://consul.service"}).store) == "consul://consul.service:8500"
    assert str(Settings.read({"FLANNELPY_STORE": "consuls://[::1]"}).store) == "consuls://[::1]:8501"


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("STORE", "etcd://x:1", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("STORE", "consul://", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("STORE", "consul://h:99999", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("STORE", "consul://token@h:1", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("STORE", "consul://h:1/kv", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("STORE", "consul://[::1", "it must be sqlite, consul://HOST:PORT or, for TLS, consuls://HOST:PORT"),
        ("CLUSTER", "a/../b", "it must be at most 128 letters, digits and ._-, in parts divided by / if you like"),
        ("CLUSTER", "/a", "it must be at most 128 letters, digits and ._-, in parts divided by / if you like"),
        ("HOST", "a b", "it must be 1 to 63 letters, digits and ._-, beginning with a letter or digit"),
        ("HOST", "a" * 64, "it must be 1 to 63 letters, digits and ._-, beginning with a letter or digit"),
        ("HOST", "-a", "it must be 1 to 63 letters, digits and ._-, beginning with a letter or digit"),
        ("IFACE", "a/b", "it must be the name of a network interface, at most 15 characters"),
        ("IFACE", "a" * 16, "it must be the name of a network interface, at most 15 characters"),
        ("ADDRESS", "eth0", "'eth0' is not an IP address such as 10.1.0.5 or fd00::5"),
        ("ADDRESS", "127.0.0.1", "'127.0.0.1' reaches into 127.0.0.0/8, which are loopback addresses"),
        ("ADDRESS", "10.0.0.1,10.0.0.2", "it must be at most one address per family, with a comma between them"),
        ("DNS", "here", "it must be addresses that nothing else uses, such as 169.254.53.53,fda9:fe35:35::53, or off"),
        (
            "DNS",
            "127.0.0.53",
            "containers cannot reach 127.0.0.53; take one such as 169.254.53.53,fda9:fe35:35::53, or off",
        ),
        (
            "DNS",
            "fe80::53",
            "containers cannot reach fe80::53; take one such as 169.254.53.53,fda9:fe35:35::53, or off",
        ),
        ("DNS", "10.0.0.1,10.0.0.2", "it must be at most one address per family, with a comma between them"),
        ("POOLS", " ; ", "it must be one or more CIDR,size=N, separated by semicolons"),
        ("POOLS", "10.0.0.0/8", "'10.0.0.0/8' needs ,size=N with N from 8 to 30"),
        ("POOLS", "10.0.0.0/8,size=7", "'10.0.0.0/8,size=7' needs ,size=N with N from 8 to 30"),
        ("POOLS", "fd00::/8,size=127", "'fd00::/8,size=127' needs ,size=N with N from 8 to 126"),
        (
            "POOLS",
            "10.0.0.1/8,size=9",
            "'10.0.0.1/8' has bits set beyond its prefix length: 10.0.0.0/8 may be meant; "
            "it must read like 10.224.0.0/11,size=18",
        ),
        ("POOLS", "10.0.0.0/8,size=9;10.1.0.0/16,size=20", "10.0.0.0/8 and 10.1.0.0/16 overlap"),
        ("BLOCK", "26 ", "it must be a number from 16 to 30"),
        ("BLOCK", "15", "it must be a number from 16 to 30"),
        ("BLOCK", "٢٦", "it must be a number from 16 to 30"),
        ("BACKEND", "VXLAN", "it must be one of vxlan, host-gw, wireguard, udp"),
        ("SOCKET", "flannelpy.sock", "it must be an absolute path"),
        ("SOCKET", "/run/x.sock,", "it must be an absolute path"),
        ("SOCKET", "/" + "s" * 107, "a socket's path has at most 107 bytes"),
        ("SOCKET", "/a,/a", "it names the same path twice"),
        ("STATE_DIR", "/var/../etc", "it must be an absolute path"),
        ("LOG", "loud", "it must be one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_names_the_variable_the_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read({f"FLANNELPY_{name}": text})
    assert str(refused.value) == f"FLANNELPY_{name} is {text!r}: {allowed}"


def test_where_encryption_is_required_it_is_the_default_and_no_plaintext_backend_may_be() -> None:
    required = {"FLANNELPY_ENCRYPTION": "required"}
    assert Settings.read(required).backend == "wireguard"
    assert Settings.read({**required, "FLANNELPY_BACKEND": "wireguard"}).backend == "wireguard"
    with pytest.raises(SettingsError) as refused:
        Settings.read({**required, "FLANNELPY_BACKEND": "vxlan"})
    assert str(refused.value) == (
        "FLANNELPY_BACKEND is 'vxlan': it must be wireguard where FLANNELPY_ENCRYPTION is 'required'"
    )


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read({"FLANNELPY_BLOK": "24"})
    assert str(refused.value) == (
        "FLANNELPY_BLOK is '24', but there is no such setting: "
        f"did you mean FLANNELPY_BLOCK? Known are {', '.join(NAMES)}"
    )


def test_blocks_are_equally_large_in_both_families() -> None:
    assert Settings().block_prefix(ip_network("10.224.0.0/18")) == 26
    assert Settings().block_prefix(ip_network("fd00::/64")) == 122


# the host's name


def test_the_host_name_at_the_first_start_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(state_dir=tmp_path)
    monkeypatch.setattr("socket.gethostname", lambda: "first")
    assert state_dir.with_host(settings).host == "first"
    monkeypatch.setattr("socket.gethostname", lambda: "second")
    assert state_dir.with_host(settings).host == "first"
    assert (tmp_path / "host").read_text() == "first\n"


def test_a_given_name_is_kept_and_cannot_change(tmp_path: Path) -> None:
    assert state_dir.with_host(Settings(state_dir=tmp_path, host="a")).host == "a"
    assert state_dir.with_host(Settings(state_dir=tmp_path)).host == "a"
    with pytest.raises(SettingsError) as refused:
        state_dir.with_host(Settings(state_dir=tmp_path, host="b"))
    assert str(refused.value) == (
        f"FLANNELPY_HOST is 'b': it must be 'a', whose leases this host holds, as {tmp_path}/host says"
    )


def test_a_host_name_that_cannot_serve_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "höst")
    with pytest.raises(SettingsError, match="FLANNELPY_HOST is not set, and the host name is 'höst': it must be 1 to"):
        state_dir.with_host(Settings(state_dir=tmp_path))
    assert not (tmp_path / "host").exists()


def test_a_name_that_every_host_has_is_enough_for_one_host_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    with pytest.raises(SettingsError, match="it must be this host's alone"):
        state_dir.with_host(Settings(state_dir=tmp_path, store=StoreAddress("consul", "h", 8500)))
    assert state_dir.with_host(Settings(state_dir=tmp_path)).host == "localhost"


def test_a_damaged_host_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "host").write_bytes(b"\xff\x00")
    with pytest.raises(SettingsError, match="as this host's name: it must be 1 to 63"):
        state_dir.with_host(Settings(state_dir=tmp_path))


def test_a_host_file_that_a_crash_left_empty_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "host").touch()
    assert state_dir.with_host(Settings(state_dir=tmp_path, host="a")).host == "a"


# the state directory


def test_the_state_directory_is_made_private_and_used_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with state_dir.claim(path):
        assert path.stat().st_mode & 0o777 == 0o700
        with pytest.raises(Busy, match=f"Another flannelpy is using the state directory {path}: stop it"):
            state_dir.claim(path, patience=0)
    state_dir.claim(path, patience=0).close()


def test_an_empty_directory_that_was_made_beforehand_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    state_dir.claim(tmp_path).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(SettingsError, match="it must be a directory for flannelpy alone"):
        state_dir.claim(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_state_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"FLANNELPY_STATE_DIR is '.*/file/x': it cannot be used"):
        state_dir.claim(tmp_path / "file" / "x")


# plugin.json


def test_plugin_json_offers_exactly_our_settings_and_consuls_own() -> None:
    offered = [entry["name"] for entry in MANIFEST["env"]]
    assert [name for name in offered if not name.startswith("CONSUL_")] == NAMES
    assert all(entry["settable"] == ["value"] and entry["description"] for entry in MANIFEST["env"])


def test_plugin_json_says_of_each_setting_what_the_flag_says() -> None:
    said = {entry["name"]: entry["description"] for entry in MANIFEST["env"] if entry["name"] in NAMES}
    assert said == {f.metadata["env"]: f.metadata["help"] for f in fields(Settings)}


def test_plugin_json_sets_the_defaults_of_the_code_except_for_where_things_are() -> None:
    given = {entry["name"]: entry["value"] or "" for entry in MANIFEST["env"] if entry["name"] in NAMES}
    defaults = {f.metadata["env"]: f.metadata["default"] for f in fields(Settings)}
    assert {name for name in NAMES if given[name] != defaults[name]} == {
        "FLANNELPY_SOCKET",
        "FLANNELPY_STATE_DIR",
        "FLANNELPY_DOCKER",
    }


def test_plugin_json_leads_to_the_same_places_of_the_host_as_the_defaults() -> None:
    """So that a host can change from the one way of running it to the other, and back."""
    given = Settings.read({entry["name"]: entry["value"] or "" for entry in MANIFEST["env"]})
    assert given.socket[0] == Path("/run/docker/plugins") / MANIFEST["interface"]["socket"]
    assert [on_host(str(path)) for path in given.socket[1:]] == [str(path) for path in Settings().socket]
    assert on_host(str(given.state_dir)) == str(Settings().state_dir)
    assert on_host(given.docker.removeprefix("unix://")) == "/run/docker.sock"
    assert on_host(str(sysctl.MOUNTED)) == str(sysctl.ROOT)


def on_host(path: str) -> str:
    """Where a path inside the plugin is on its host."""
    for mount in MANIFEST["mounts"]:
        if path == mount["destination"] or path.startswith(mount["destination"] + "/"):
            return str(mount["source"]) + path.removeprefix(mount["destination"])
    raise AssertionError(f"{path} is inside the plugin, and lost with it")


def test_plugin_json_mounts_only_what_every_host_has() -> None:
    """Docker enables no plugin whose mount is missing on the host, and nobody is to make a directory before."""
    assert {mount["source"] for mount in MANIFEST["mounts"]} == {"/run", "/var/lib", "/proc/sys/net"}
    # With rbind, the plugin would keep every container's file system mounted.
    assert all(mount["options"] == ["bind", "rw"] for mount in MANIFEST["mounts"])


def test_plugin_json_is_for_both_protocols_on_the_hosts_network() -> None:
    assert MANIFEST["interface"]["types"] == ["docker.networkdriver/1.0", "docker.ipamdriver/1.0"]
    assert MANIFEST["network"] == {"type": "host"}
    assert MANIFEST["linux"]["capabilities"] == [
        "CAP_NET_ADMIN",
        "CAP_BPF",
    ]  # beside those that Docker gives every container
