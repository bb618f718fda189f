"""The page, and what keeps it safe in a browser.

The names on it are other people's: containers and networks are called as their makers like. The browser is told to
run and load nothing but our own files. Whoever looks from this host has a browser that also runs the pages of
strangers: one of them could point a name of its own at 127.0.0.1 and read ours under it, so a name that is not this
host's is refused there."""

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, request, send_from_directory

FILES = Path(__file__).parent / "page"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
FOR_PROGRAMS = ("/healthz", "/readyz", "/metrics")  # ask under any name


def serve_page(app: Flask) -> None:
    @app.get("/")
    def page() -> Response:
        return send_from_directory(FILES, "index.html")

    @app.get("/page.<any(css, js):kind>")
    def part(kind: str) -> Response:
        return send_from_directory(FILES, f"page.{kind}")

    @app.before_request
    def refuse_strange_names() -> Response | None:
        if request.path in FOR_PROGRAMS or not _is_loopback(request.remote_addr or "") or _is_here(request.host):
            return None
        text = "Ask for this page as localhost or 127.0.0.1: another name could be one that a stranger pointed here.\n"
        return Response(text, status=403, content_type="text/plain")

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response


def _is_here(host: str) -> bool:
    """Whether the Host header names this host in a way that nobody else's DNS decides."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_address(name)


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ip_address(text).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
