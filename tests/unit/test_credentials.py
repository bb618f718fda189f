"""Consul's own variables: what is wrong with them is a sentence that names the variable, and never the token."""

from pathlib import Path

import pytest

from store.consul import ConsulStore
from store.credentials import CA, CERTIFICATE, KEY, TOKEN, TOKEN_FILE, Credentials, read_credentials, read_token


def test_without_any_there_are_none() -> None:
    assert read_credentials({TOKEN: "", CA: ""}) == Credentials()


def test_where_the_token_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" from-file\n")
    assert read_token({}) is None
    assert read_token({TOKEN: ""}) is None
    assert read_token({TOKEN: "direct"}) == "direct"
    assert read_token({TOKEN: "direct", TOKEN_FILE: str(file)}) == "from-file"


@pytest.mark.parametrize("token", ["sec ret", "secret\n", "sécret"])
def test_a_wrong_token_is_refused_but_not_told(token: str) -> None:
    for wrong in (
        lambda: ConsulStore("consul://127.0.0.1", "root", token=token),
        lambda: read_credentials({TOKEN: token}),
    ):
        with pytest.raises(ValueError, match="the Consul token") as caught:
            wrong()
        assert "ret" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n", b"\xff"])
def test_a_token_file_without_a_token(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"{TOKEN_FILE}={file}: "):
        read_token({TOKEN_FILE: str(file)})


@pytest.mark.parametrize("variable", [TOKEN_FILE, CA])
def test_a_file_that_is_not_there(variable: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}=/nowhere: there is no such file"):
        read_credentials({variable: "/nowhere"})


@pytest.mark.parametrize("variable", [CERTIFICATE, KEY])
def test_a_certificate_without_its_key(variable: str) -> None:
    with pytest.raises(ValueError, match=f"{variable}=/nowhere: there is no such file"):
        read_credentials({variable: "/nowhere"})
    with pytest.raises(ValueError, match=f"{CERTIFICATE} and {KEY} go together: set both or neither"):
        read_credentials({variable: __file__})


def test_files_that_hold_something_else() -> None:
    with pytest.raises(ValueError, match=f"^{CA}={__file__}: it holds no certificates that can be read"):
        read_credentials({CA: __file__})
    with pytest.raises(ValueError, match=f"^{CERTIFICATE}={__file__} and {KEY}={__file__}: they cannot be read"):
        read_credentials({CERTIFICATE: __file__, KEY: __file__})
