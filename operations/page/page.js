// The cluster, asked for every few seconds and drawn anew where something changed. Names are strangers' text: they only
// ever become text nodes. Nothing here changes anything on the host.
"use strict";

const EVERY = 3000, PATIENCE = 8000; // ms
const COLUMNS = 8; // hosts that the lines show one by one
const NAMED = 16; // hosts that a pool's legend names
const MOST_SQUARES = 4096; // beyond that only the held blocks are drawn
// Okabe and Ito's colours, told apart by colour-blind people, and five patterns: 35 hosts without a repetition.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800"];
const PATTERNS = 5;

const $ = (id) => document.getElementById(id);

/** An element with attributes, and children that are elements or text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
const big = (n) => (n < 1e6 ? n.toLocaleString("en") : `2^${Math.round(Math.log2(n))}`);

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

// --- hosts: colour, pattern, health ---

let hostNumber = new Map();

const styleOf = (host) => {
  const number = hostNumber.get(host) ?? 0;
  return { colour: COLOURS[number % COLOURS.length], pattern: number % PATTERNS };
};

/** One square of a host: pale and patterned, full colour up to `part` of its height. */
function square(pen, host, x, y, width, height, part) {
  const { colour, pattern } = styleOf(host);
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  pen.fillStyle = pen.strokeStyle = colour;
  pen.globalAlpha = 0.3;
  pen.fillRect(x, y, width, height);
  pen.globalAlpha = 1;
  const full = part > 0 ? Math.max(2, height * part) : 0;
  pen.fillRect(x, y + height - full, width, full);
  hatch(pen, pattern, x, y, width, height);
  pen.lineWidth = 3;
  pen.strokeRect(x, y, width, height);
  pen.restore();
}

function hatch(pen, pattern, x, y, width, height) {
  const step = 6, reach = width + height;
  pen.globalAlpha = 0.75;
  pen.lineWidth = 1.25;
  pen.beginPath();
  for (let at = 3; at < reach; at += step) {
    if (pattern === 1) pen.moveTo(x + at, y), pen.lineTo(x + at - height, y + height);
    if (pattern === 2 && at < height) pen.moveTo(x, y + at), pen.lineTo(x + width, y + at);
    if (pattern === 3) pen.moveTo(x + width - at, y), pen.lineTo(x + width - at + height, y + height);
    if (pattern === 4 && at < width) pen.moveTo(x + at, y), pen.lineTo(x + at, y + height);
  }
  pen.stroke();
}

/** Text that is read on any colour. */
function label(pen, text, x, y, ink, halo) {
  pen.font = "700 12px sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = halo;
  pen.fillStyle = ink;
  pen.strokeText(text, x, y + 1);
  pen.fillText(text, x, y + 1);
}

function swatch(host) {
  const canvas = make("canvas", { class: "swatch", "aria-hidden": "true" });
  const pen = sized(canvas, 16, 16);
  square(pen, host, 0, 0, 16, 16, 0.34);
  return canvas;
}

/** A pen that writes in CSS pixels, on as many real ones as the screen has. */
function sized(canvas, width, height) {
  const sharp = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(height * sharp);
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  return pen;
}

function health(host, status) {
  if (host.given_up) return "✕ given up: its addresses are free";
  if (status.silent_hosts.includes(host.name)) return `⚠ silent for ${duration(host.silent_for ?? 0)}`;
  return null;
}

const hereTag = (host) => (host.here ? make("span", { class: "this" }, "this host") : null);

// --- the parts of the page ---

function drawHead({ status, picture }) {
  const on = status.underlay ? ` · ${status.underlay.dev}, MTU ${status.underlay.mtu}` : "";
  $("where").textContent = `as ${status.host} sees it${on}`;
  document.title = `${status.problems.length ? "⚠ " : ""}${status.host}: flannelpy`;
  $("problems").replaceChildren(...status.problems.map((text) => make("li", {}, text)));
  if (!picture) return;
  const sum = (key) => picture.networks.reduce((all, { network }) => all + network[key], 0);
  const figures = [["hosts", picture.hosts.length], ["networks", picture.networks.length], ["containers", picture.containers], ["blocks held", sum("blocks")], ["addresses in use", sum("given")]];
  $("figures").replaceChildren(
    ...figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value.toLocaleString("en")))),
  );
}

/** This host, those in trouble, and those with most networks come first; the rest is one column. */
function columns({ status, picture }) {
  const rank = (host) => (host.here ? -2 : health(host, status) ? -1 : 0);
  const most = [...picture.hosts].sort((a, b) => rank(a) - rank(b) || b.networks.length - a.networks.length);
  const shown = new Set(most.slice(0, COLUMNS));
  return { shown: picture.hosts.filter((host) => shown.has(host)), rest: most.slice(COLUMNS).map((host) => host.name) };
}

function drawLines(overview) {
  const { shown, rest } = columns(overview);
  const head = shown.map((host) => {
    const ill = health(host, overview.status);
    const address = make("div", { class: "soft address" }, host.addresses[0] ?? "");
    return make("th", { scope: "col" }, hereTag(host), make("div", { class: "name" }, swatch(host.name), host.name), ill ? make("div", { class: "bad-text" }, ill) : address);
  });
  if (rest.length) head.push(make("th", { scope: "col" }, make("div", { class: "name" }, `${rest.length} more`)));
  const rows = overview.picture.networks.map((map) => {
    const stations = shown.map((host) => make("td", {}, station(map, host, overview.status)));
    if (rest.length) {
      const members = map.network.hosts.filter((name) => rest.includes(name)).length;
      stations.push(make("td", {}, members ? make("span", { class: "station", title: `${members} of these hosts` }, `×${members}`) : ""));
    }
    return make("tr", { class: map.network.backend ?? "addresses" }, title(map), ...stations);
  });
  const empty = make("tr", {}, make("th", { colspan: head.length + 1 }, "No network yet."));
  $("lines").replaceChildren(
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span", { class: "soft" }, "network")), ...head)),
    make("tbody", {}, ...(rows.length ? rows : [empty])),
  );
}

function title({ network, encrypted }) {
  const tags = [network.backend ?? "addresses only"];
  if (network.port) tags.push(`UDP ${network.port}`);
  if (network.backend === "vxlan") tags.push(`VNI ${network.vni}`);
  if (network.internal) tags.push("internal");
  const marks = tags.map((text) => make("span", { class: "tag" }, text));
  if (encrypted) marks.push(make("span", { class: "tag sealed" }, "encrypted"));
  const pools = [network.pool, ...network.more_pools].map((pool) => make("div", { class: "soft address" }, pool));
  return make("th", { scope: "row" }, make("div", { class: "name" }, nameOf(network)), make("div", { class: "tags" }, ...marks), ...pools, network.spread ? make("div", { class: "hint why" }, network.spread) : null);
}

const nameOf = (network) => `${network.name ?? network.pool}${network.here ? "" : " (not on this host)"}`;

function station({ network, pools }, host, status) {
  if (!network.hosts.includes(host.name)) return "";
  const given = pools.flatMap((pool) => pool.held).filter((block) => block.host === host.name).reduce((all, block) => all + block.given, 0);
  const lost = health(host, status) ? " lost" : "";
  const mark = make("span", { class: `station${lost}`, title: `${host.name}: ${count(given, "address", "addresses")} in use` }, `${given}`);
  mark.style.setProperty("--host", styleOf(host.name).colour);
  return mark;
}

function drawHosts({ status, picture }) {
  $("hosts").replaceChildren(
    ...picture.hosts.map((host) => {
      const ill = health(host, status);
      return make(
        "li", ill ? { class: "ill" } : {},
        make("div", { class: "name" }, swatch(host.name), `${host.name} `, hereTag(host)),
        make("div", { class: "soft address" }, host.addresses.join(", ") || "in no network"),
        make("div", { class: ill ? "bad-text" : "soft" }, ill ?? "✓ alive"),
        make("div", { class: "soft" }, `${count(host.blocks, "block")}, ${count(host.given, "address", "addresses")} in use`),
      );
    }),
  );
}

function drawContainers({ total, containers }) {
  if (!total) return $("containers").replaceChildren(make("p", { class: "hint" }, "None."));
  const cells = ({ name, host, network, pool, addresses }) =>
    make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, swatch(host), host), make("td", {}, network ?? pool), make("td", { class: "address" }, addresses.join(", ")));
  const heads = ["container", "host", "network", "address"].map((text) => make("th", { scope: "col" }, text));
  const more = total - containers.length;
  $("containers").replaceChildren(
    make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...containers.map(cells))),
    make("p", { class: "hint" }, more ? `and ${more.toLocaleString("en")} more` : ""),
  );
}

// --- address space ---

let maps = []; // those on the page, to be painted again when the width or the colours change

function drawSpace({ picture }) {
  maps = picture.networks.flatMap(({ network, pools }) => pools.map((pool) => new PoolMap(network, pool)));
  $("space").replaceChildren(...maps.map((map) => map.element));
  for (const map of maps) map.paint();
}

const toNumber = (cidr) => cidr.split("/")[0].split(".").reduce((all, part) => all * 256 + Number(part), 0);
const toText = (n) => [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");

class PoolMap {
  constructor(network, pool) {
    this.pool = pool;
    this.whole = pool.count <= MOST_SQUARES && !pool.pool.includes(":");
    this.base = this.whole ? toNumber(pool.pool) : 0;
    this.blocks = new Map(pool.held.map((block, i) => [this.whole ? (toNumber(block.block) - this.base) / pool.block_size : i, block]));
    this.squares = this.whole ? pool.count : pool.held.length;
    this.at = -1;
    const used = pool.held.reduce((all, block) => all + block.given, 0);
    const facts = `${big(pool.held.length)} of ${count(pool.count, "block").replace(/^[\d,]+/, big(pool.count))} held, ${count(used, "address", "addresses")} in use, ${big(pool.block_size)} in a block`;
    this.canvas = make("canvas", { role: "img", tabindex: "0", "aria-label": `${pool.pool}: ${facts}` });
    this.read = make("p", { class: "read soft", "aria-live": "polite" }, this.whole ? this.span() : "Only the blocks that are held are drawn.");
    this.element = make(
      "div", { class: "pool" },
      make("h3", {}, nameOf(network), pool.pool === nameOf(network) ? null : make("span", { class: "address" }, pool.pool), make("span", { class: "soft" }, facts)),
      this.canvas, this.read, this.legend(),
    );
    this.canvas.addEventListener("pointermove", (event) => this.point(this.under(event)));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  span() {
    return `${toText(this.base)} to ${toText(this.base + this.pool.count * this.pool.block_size - 1)}`;
  }

  legend() {
    const held = new Map();
    for (const block of this.pool.held) {
      const sum = held.get(block.host) ?? { blocks: 0, given: 0 };
      held.set(block.host, { blocks: sum.blocks + 1, given: sum.given + block.given });
    }
    const lines = [...held].sort((a, b) => b[1].blocks - a[1].blocks || a[0].localeCompare(b[0]));
    const entries = lines.slice(0, NAMED).map(([host, sum]) => make("li", {}, swatch(host), `${host}: ${count(sum.blocks, "block")}, ${sum.given} in use`));
    if (lines.length > NAMED) entries.push(make("li", {}, `and ${lines.length - NAMED} more hosts`));
    return make("ul", { class: "legend" }, ...entries);
  }

  paint() {
    const width = this.canvas.clientWidth;
    if (!width || !this.squares) return void (this.canvas.hidden = !this.squares);
    const narrow = width < 560;
    const most = this.squares <= 64 ? (narrow ? 16 : 32) : narrow ? 32 : 64; // a power of two: rows begin at round addresses
    this.across = Math.min(most, this.squares);
    this.size = Math.min(width / this.across, 44);
    const rows = Math.ceil(this.squares / this.across);
    const high = Math.max(this.size, rows === 1 ? 28 : 0);
    this.high = high;
    this.canvas.style.height = `${rows * high}px`;
    const pen = sized(this.canvas, width, rows * high);
    const style = getComputedStyle(document.documentElement);
    const [free, ink, card] = ["--free", "--ink", "--card"].map((name) => style.getPropertyValue(name));
    const gap = this.size > 14 ? 3 : 1;
    for (let at = 0; at < this.squares; at++) {
      const x = (at % this.across) * this.size, y = Math.floor(at / this.across) * high;
      const block = this.blocks.get(at);
      if (block) {
        square(pen, block.host, x, y, this.size - gap, high - gap, block.given / this.pool.block_size);
        if (this.size >= 26) label(pen, block.given, x + (this.size - gap) / 2, y + (high - gap) / 2, ink, card);
      } else {
        pen.fillStyle = free;
        pen.fillRect(x, y, this.size - gap, high - gap);
      }
      if (at === this.at) {
        pen.strokeStyle = ink;
        pen.lineWidth = 2;
        pen.strokeRect(x + 1, y + 1, this.size - gap - 2, high - gap - 2);
      }
    }
  }

  under(event) {
    const column = Math.floor(event.offsetX / this.size);
    return column < this.across ? Math.floor(event.offsetY / this.high) * this.across + column : -1;
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.across, ArrowUp: -this.across }[event.key];
    if (!step) return;
    event.preventDefault();
    this.point(Math.min(this.squares - 1, Math.max(0, this.at + step)));
  }

  point(at) {
    if (at === this.at || at < 0 || at >= this.squares) return;
    this.at = at;
    const block = this.blocks.get(at);
    const prefix = this.whole ? 32 - Math.log2(this.pool.block_size) : "";
    this.read.textContent = block
      ? `${block.block} · ${block.host} · ${block.given} of ${this.pool.block_size} addresses in use`
      : `${toText(this.base + at * this.pool.block_size)}/${prefix} · free`;
    this.paint();
  }
}

// --- asking ---

const PARTS = [
  [drawHead, ({ status, picture }) => [status, picture]],
  [drawLines, ({ status, picture }) => [status.silent_hosts, picture?.hosts, picture?.networks]],
  [drawSpace, ({ picture }) => [picture?.hosts.map((host) => host.name), picture?.networks]],
  [drawHosts, ({ status, picture }) => [status.silent_hosts, picture?.hosts]],
];
const drawn = new Map();
let answered = null; // when flannelpy last did

/** Silence is a matter of seconds for every living host, and no reason to draw. */
const quiet = (status) => (key, value) => (key === "silent_for" && value < 60 && !status.silent_hosts.length ? 0 : value);

function show(overview) {
  const { status, picture, age } = overview;
  if (picture) hostNumber = new Map(picture.hosts.map((host, i) => [host.name, i]));
  document.querySelector("main").hidden = !picture;
  for (const [draw, parts] of PARTS) {
    const text = JSON.stringify(parts(overview), quiet(status));
    if (drawn.get(draw) === text || (!picture && draw !== drawHead)) continue;
    drawn.set(draw, text);
    draw(overview);
  }
  const away = status.store.away_for !== null;
  document.body.classList.toggle("old", away && picture !== null);
  if (away && picture) say("bad", `⚠ The store is away. This was seen ${duration(age)} ago.`);
  else if (away) say("bad", "⚠ The store is away, and nothing has been seen of the cluster yet.");
  else if (!picture) say("", "Looking at the cluster …");
  else if (status.problems.length) say("bad", `⚠ ${count(status.problems.length, "problem")}`);
  else say("good", "✓ All is well");
  $("foot").textContent = `flannelpy ${status.version} · store ${status.store.address} · read-only, asked every ${EVERY / 1000} s`;
}

function say(kind, text) {
  $("state").className = kind;
  if ($("state").textContent !== text) $("state").textContent = text; // or a screen reader would say it again
}

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

async function find() {
  const wanted = $("find").value;
  const found = await get(`api/containers?find=${encodeURIComponent(wanted)}`);
  const text = JSON.stringify([found, ...hostNumber.keys()]);
  if (drawn.get(find) === text || wanted !== $("find").value) return;
  drawn.set(find, text);
  drawContainers(found);
}

async function ask() {
  try {
    const overview = await get("api/overview");
    answered = new Date();
    show(overview);
    await find();
  } catch (error) {
    document.body.classList.add("old");
    const seen = answered ? ` What you see is from ${answered.toLocaleTimeString()}.` : "";
    say("bad", `✕ flannelpy on this host does not answer.${seen}`);
    console.warn(error);
  }
}

async function keepAsking() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((wake) => {
      const done = () => { clearTimeout(timer); document.removeEventListener("visibilitychange", done); wake(); };
      const timer = setTimeout(done, EVERY);
      document.addEventListener("visibilitychange", done);
    });
  }
}

$("find").addEventListener("input", () => find().catch(console.warn)); // the next round says what is wrong
const repaint = () => maps.forEach((map) => map.paint());
addEventListener("resize", () => requestAnimationFrame(repaint));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
keepAsking();
