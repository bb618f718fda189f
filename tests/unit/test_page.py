"""The page: what is served with which headers, and what a browser makes of it."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import cast

import pytest
from flask import Response
from flask.testing import FlaskClient

from operations import browser as served_files
from operations.metrics import Metrics
from operations.observer import Observer
from operations.web import build_app
from tests import browser
from tests.lab import requirements
from tests.unit.page_cluster import EVIL, Cluster, listening, picture, served, status


@pytest.fixture
def client() -> FlaskClient:
    return build_app(cast(Observer, Cluster(picture(), status())), Metrics()).test_client()


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")]
)
def test_the_page_is_three_files_that_load_nothing_from_elsewhere(client: FlaskClient, path: str, kind: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)|\bsrc=\"//|@import|<style|\son\w+=", answer.text)
    answer.close()


def test_every_answer_has_the_headers_that_keep_a_browser_strict(client: FlaskClient) -> None:
    for path in ("/", "/page.js", "/api/overview", "/nothing"):
        with client.get(path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_is_read_only(client: FlaskClient) -> None:
    for path in ("/", "/page.js", "/api/overview"):
        assert client.post(path).status_code == 405
    assert client.get("/page.py").status_code == client.get("/../web.py").status_code == 404


@pytest.mark.parametrize("name", ["localhost:9470", "127.0.0.1:9470", "[::1]:9470", "127.0.0.1"])
def test_this_host_is_asked_by_names_that_nobody_else_can_take(client: FlaskClient, name: str) -> None:
    assert client.get("/api/overview", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", ["stranger.example:9470", "localhost.stranger.example", "127.0.0.1.example", "[::1"])
def test_a_strangers_name_that_leads_here_is_refused(client: FlaskClient, name: str) -> None:
    assert client.get("/api/overview", headers={"Host": name}).status_code in (400, 403)
    assert client.get("/metrics", headers={"Host": "node1.example:9470"}).status_code == 200


def test_from_another_machine_any_name_will_do(client: FlaskClient) -> None:
    there = {"REMOTE_ADDR": "192.0.2.7"}
    assert client.get("/api/overview", headers={"Host": "node1.example"}, environ_base=there).status_code == 200


def test_the_overview_is_small(client: FlaskClient) -> None:
    many = build_app(cast(Observer, Cluster(picture(300, 10, 14), status())), Metrics()).test_client()
    assert len(client.get("/api/overview").data) < 3_000
    assert len(many.get("/api/overview").data) < 300_000


def test_the_script_makes_no_markup_of_text() -> None:
    script = (Path(served_files.FILES) / "page.js").read_text()
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script)


@pytest.fixture
def chromium() -> None:
    if browser.program() is None:
        sentence = "no Chromium is installed; run scripts/setup --browser"
        if requirements.demanded():
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


@pytest.mark.usefixtures("chromium")
def test_a_browser_shows_the_cluster_and_takes_no_name_for_markup() -> None:
    cluster = Cluster(picture(name=EVIL), status("beware of " + EVIL, silent=["h2"]), EVIL)
    with served(cluster) as url:
        html = browser.dom(url, after=1)
    assert "<title>⚠ h0: flannelpy</title>" in html
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=") >= 4
    shown = text(html)
    assert "⚠ 1 problem" in shown
    assert "6 of 64 blocks held" in shown
    assert "⚠ silent for 2 s" in shown
    assert "vxlan UDP 8479 VNI 7" in shown


@pytest.mark.usefixtures("chromium")
def test_a_browser_says_why_a_network_is_not_on_this_host() -> None:
    seen = picture()
    absent = replace(seen.networks[0].network, here=False, spread="absent: made on host h1, type: docker " + EVIL)
    with served(Cluster(replace(seen, networks=(replace(seen.networks[0], network=absent),)), status())) as url:
        html = browser.dom(url, after=1)
    assert "web (not on this host)" in text(html)
    assert "absent: made on host h1, type: docker &lt;img src=x" in html
    assert "✓ All is well" in text(html)


@pytest.mark.usefixtures("chromium")
def test_a_browser_follows_what_changes_and_tells_when_the_store_goes() -> None:
    with served(Cluster(picture(), status(), vanishes=2)) as url:
        shown = text(browser.dom(url, after=12))
    assert "⚠ The store is away. This was seen " in shown
    assert "6 of 64 blocks held" in shown


@pytest.mark.usefixtures("chromium")
def test_a_browser_tells_when_flannelpy_does_not_answer() -> None:
    with served(Cluster(picture(), status(), dies=2)) as url:
        shown = text(browser.dom(url, after=12))
    assert "✕ flannelpy on this host does not answer. What you see is from " in shown
    assert "6 of 64 blocks held" in shown


MEASURE = """
const channels = text => text.match(/[\\d.]+/g).map(Number);
const light = colour => {
  const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const over = (top, below) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
const ground = node => {
  if (!node) return [255, 255, 255];
  const own = channels(getComputedStyle(node).backgroundColor);
  return (own[3] ?? 1) === 1 ? own : over(own, ground(node.parentElement));
};
const contrast = node => {
  const below = ground(node), [a, b] = [light(over(channels(getComputedStyle(node).color), below)), light(below)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const written = node => [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
setTimeout(() => {
  const shown = [...document.body.querySelectorAll("*:not(svg *)")].filter(n => written(n) && n.checkVisibility());
  const faint = shown.filter(n => contrast(n) < 4.5).map(n => `${n.tagName} ${n.textContent.trim().slice(0, 40)}`);
  const root = document.documentElement, beyond = root.scrollWidth - root.clientWidth;
  root.dataset.measured = JSON.stringify({width: innerWidth, beyond, texts: shown.length, faint});
}, 1500);
"""


@pytest.mark.usefixtures("chromium")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways_and_all_text_can_be_read(dark: bool) -> None:
    """Contrast by WCAG 2, AA: 4.5 for text of this size."""
    long, away = "observability-and-a-long-name", "the store has been away for 9 s: Consul at consul://127.0.0.1:8500"
    cluster = Cluster(picture(8, 6, 18, long), status(away, silent=["h2"]), *[f"with-a-{long}-{i}" for i in range(5)])
    app = build_app(cast(Observer, cluster), Metrics())
    page = (Path(served_files.FILES) / "index.html").read_text() + '<script src="/measure.js"></script>'
    app.get("/measured", endpoint="measured")(lambda: page)
    app.get("/measure.js", endpoint="measure")(lambda: Response(MEASURE, content_type="text/javascript"))
    with listening(app) as url:
        html = browser.dom(f"{url}measured", after=3, width=390, dark=dark)
    [found] = re.findall(r'data-measured="([^"]*)"', html)
    measured = json.loads(unescape(found))
    assert measured["texts"] > 20
    assert (measured["width"], measured["beyond"], measured["faint"]) == (390, 0, [])
