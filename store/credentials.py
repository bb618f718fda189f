"""What a host shows Consul and whom it believes, by Consul's own variables: a token, and certificates for TLS."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOKEN, TOKEN_FILE = "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"
CA, CERTIFICATE, KEY = "CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"
VARIABLES = (TOKEN, TOKEN_FILE, CA, CERTIFICATE, KEY)
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    token: str | None = None
    ca: str | None = None  # a PEM file
    certificate: tuple[str, str] | None = None  # PEM files: certificate and key


def read_credentials(environ: Mapping[str, str]) -> Credentials:
    """ValueError names the variable that is wrong. What is wrong now would be so at each question, too."""
    certificate, key = _existing_file(environ, CERTIFICATE), _existing_file(environ, KEY)
    if bool(certificate) != bool(key):
        raise ValueError(f"{CERTIFICATE} and {KEY} go together: set both or neither")
    pair = (certificate, key) if certificate and key else None
    found = Credentials(read_token(environ), _existing_file(environ, CA), pair)
    _refuse_unusable(found)
    return found


def read_token(environ: Mapping[str, str]) -> str | None:
    """The token, read once; as with Consul's own tools the file wins over CONSUL_HTTP_TOKEN."""
    path = _existing_file(environ, TOKEN_FILE)
    if not path:
        return checked_token(environ.get(TOKEN) or None)
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{TOKEN_FILE}={path}: cannot be read: {error}") from error
    if not token:
        raise ValueError(f"{TOKEN_FILE}={path}: the file is empty")
    return checked_token(token)


def checked_token(token: str | None) -> str | None:
    """Else requests refuses it, with the token in its sentence."""
    if token and not _TOKEN.fullmatch(token):
        raise ValueError(f"the Consul token ({TOKEN} or {TOKEN_FILE}) holds characters that no token has")
    return token


def _existing_file(environ: Mapping[str, str], variable: str) -> str | None:
    path = environ.get(variable)
    if path and not os.path.isfile(path):
        raise ValueError(f"{variable}={path}: there is no such file")
    return path or None


def _refuse_unusable(found: Credentials) -> None:
    import ssl  # takes a while, and commands need no more than the names above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if found.ca:
        try:
            context.load_verify_locations(found.ca)
        except OSError as error:
            raise ValueError(f"{CA}={found.ca}: it holds no certificates that can be read ({error})") from None
    if found.certificate:
        certificate, key = found.certificate
        try:
            context.load_cert_chain(certificate, key, password="")  # nobody is there to be asked for one
        except OSError as error:
            raise ValueError(
                f"{CERTIFICATE}={certificate} and {KEY}={key}: they cannot be read, or are no pair ({error})"
            ) from None
