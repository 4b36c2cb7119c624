// Draws one day: areas from the middle outwards, gaps as gaps, the state of charge as a line, another
// day's curves over it, and what happened as pins. Every edge comes stacked from the portal; the pins
// are the rows of the list beneath.
import "./periods.js";
import { isPressed } from "./press.js";

const holder = document.getElementById("chart");

const COLOURS = {
  "up.sun": "--sun",
  "up.battery": "--battery",
  "up.grid": "--grid",
  "up.unmeasured": "--unknown",
  "down.house": "--load",
  "down.battery": "--battery",
  "down.grid": "--grid",
  "down.loss": "--unknown",
};
const PATTERNS = { battery: "stripes", grid: "dots", unmeasured: "cross", loss: "cross" };

const LINES = {
  load: { colour: "--load", dash: [9, 4] },
  sun: { colour: "--late", dash: [2.5, 3.5] },
};
const PIN = 21;
const LEVELS = ["critical", "warning", "info"];

let plot = null;
let data = null;
let patterns = new Map();

const language = document.documentElement.lang;
const kilo = new Intl.NumberFormat(language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const mark = new Intl.NumberFormat(language);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function power(watts) {
  if (watts === null || watts === undefined) return "–";
  const size = Math.abs(Math.round(watts));
  const sign = watts < 0 && size ? "\u2212" : "";
  if (size < 1000) return `${sign}${size}\u00a0W`;
  return `${sign}${kilo.format(Math.abs(watts) / 1000)}\u00a0kW`;
}

function local(seconds) {
  let offset = 0;
  for (const [from, value] of data.offsets) if (seconds >= from) offset = value;
  return new Date((seconds + offset) * 1000).toISOString().slice(11, 16);
}

function pattern(area) {
  const colour = css(COLOURS[`${area.side}.${area.key}`]);
  const kind = PATTERNS[area.key] || "plain";
  const id = `${colour} ${kind}`;
  if (patterns.has(id)) return patterns.get(id);
  const ratio = devicePixelRatio || 1;
  const size = Math.round(8 * ratio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.globalAlpha = kind === "cross" ? 0.25 : 0.82;
  pen.fillStyle = colour;
  pen.fillRect(0, 0, size, size);
  pen.globalAlpha = kind === "cross" ? 0.6 : 0.32;
  pen.strokeStyle = kind === "cross" ? colour : css("--surface");
  pen.fillStyle = pen.strokeStyle;
  pen.lineWidth = 1.4 * ratio;
  pen.beginPath();
  if (kind === "stripes" || kind === "cross") {
    for (const shift of [-size, 0, size]) {
      pen.moveTo(shift - 1, size + 1);
      pen.lineTo(shift + size + 1, -1);
    }
  }
  pen.stroke();
  if (kind === "dots") {
    pen.beginPath();
    pen.arc(size / 2, size / 2, 1.5 * ratio, 0, 7);
    pen.fill();
  }
  const made = plot.ctx.createPattern(tile, "repeat");
  patterns.set(id, made);
  return made;
}

function drawAreas(u) {
  const { ctx } = u;
  const xs = data.t.map((t) => u.valToPos(t, "x", true));
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  const inner = { up: null, down: null };
  for (const area of data.areas) {
    const below = inner[area.side];
    const y = (value) => u.valToPos(value, "w", true);
    let from = 0;
    while (from < area.edge.length) {
      if (area.edge[from] === null) {
        from += 1;
        continue;
      }
      let to = from;
      while (to + 1 < area.edge.length && area.edge[to + 1] !== null) to += 1;
      const path = new Path2D();
      for (let i = from; i <= to; i += 1) path.lineTo(xs[i], y(area.edge[i]));
      if (to === from) path.lineTo(xs[to] + 2, y(area.edge[to]));
      for (let i = to; i >= from; i -= 1) path.lineTo(xs[i], y(below ? below[i] : 0));
      path.closePath();
      ctx.fillStyle = pattern(area);
      ctx.fill(path);
      from = to + 1;
    }
    inner[area.side] = area.edge;
  }
  const zero = u.valToPos(0, "w", true);
  ctx.strokeStyle = css("--ink");
  ctx.globalAlpha = 0.5;
  ctx.lineWidth = devicePixelRatio || 1;
  ctx.beginPath();
  ctx.moveTo(u.bbox.left, Math.round(zero) + 0.5);
  ctx.lineTo(u.bbox.left + u.bbox.width, Math.round(zero) + 0.5);
  ctx.stroke();
  ctx.restore();
}

function drawLines(u) {
  const { ctx } = u;
  const ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  for (const line of data.lines) {
    const path = new Path2D();
    let joined = false;
    line.edge.forEach((value, i) => {
      if (value === null) {
        joined = false;
        return;
      }
      const at = [u.valToPos(data.t[i], "x", true), u.valToPos(value, "w", true)];
      if (joined) path.lineTo(...at);
      else path.moveTo(...at);
      joined = true;
    });
    ctx.setLineDash([]);
    ctx.globalAlpha = 0.85;
    ctx.strokeStyle = css("--surface");
    ctx.lineWidth = 3.6 * ratio;
    ctx.stroke(path);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = css(LINES[line.key].colour);
    ctx.lineWidth = 1.6 * ratio;
    ctx.setLineDash(LINES[line.key].dash.map((length) => length * ratio));
    ctx.stroke(path);
  }
  ctx.restore();
}

function spread() {
  let high = 0;
  let low = 0;
  for (const curve of [...data.areas, ...data.lines]) {
    for (const value of curve.edge) {
      if (value > high) high = value;
      if (value < low) low = value;
    }
  }
  high = Math.max(high * 1.06, 500);
  low = Math.min(low * 1.06, 0);
  return [low, high];
}

const style = () => ({
  stroke: css("--muted"),
  font: "12px Inter, system-ui, sans-serif",
  grid: { stroke: css("--line"), width: 1 },
  ticks: { show: false },
});

function steps(u, index, low, high) {
  const span = high - low;
  const step = [250, 500, 1000, 2000, 5000, 10000, 20000].find((s) => span / s <= 9) || 50000;
  const marks = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) marks.push(at);
  return marks;
}

// As wide as the widest of its marks, at least `least`; asked again only while the plot settles.
const roomFor = (least) => (u, marks, index, cycle) => {
  const axis = u.axes[index];
  if (cycle > 1) return axis._size;
  u.ctx.font = axis.font[0];
  const widths = (marks || []).map((text) => u.ctx.measureText(text).width / devicePixelRatio);
  return Math.max(least, Math.ceil(Math.max(0, ...widths)) + axis.gap);
};

function options() {
  const narrow = holder.clientWidth < 560;
  const shown = data.ticks.filter(([, label]) => !narrow || Number(label) % 6 === 0);
  const names = new Map(shown);
  const axes = [
    {
      ...style(),
      splits: () => shown.map(([t]) => t),
      values: (u, marks) => marks.map((t) => names.get(t) || ""),
      size: 26,
      gap: 6,
    },
    {
      ...style(),
      scale: "w",
      splits: steps,
      values: (u, marks) =>
        marks.map((v) => (v === 0 ? "0" : `${mark.format(Math.abs(v) / 1000)}${narrow ? "" : "\u00a0kW"}`)),
      size: roomFor(narrow ? 26 : 52),
      gap: 5,
    },
  ];
  const series = [{}, ...data.areas.map(() => ({ scale: "w", paths: () => null, points: { show: false } }))];
  if (data.soc) {
    axes.push({
      ...style(),
      scale: "%",
      side: 1,
      grid: { show: false },
      splits: () => [0, 50, 100],
      values: (u, marks) => marks.map((v) => `${v}${narrow ? "" : "\u00a0%"}`),
      size: roomFor(narrow ? 28 : 48),
      gap: 5,
    });
    series.push({
      scale: "%",
      stroke: css("--ink"),
      width: 1.8,
      dash: [6, 3],
      spanGaps: false,
      points: { show: false },
    });
  }
  return {
    width: holder.clientWidth,
    height: Math.round(Math.min(460, Math.max(290, holder.clientWidth * 0.52))),
    padding: [eventRows().length ? PIN + 11 : 10, data.soc ? 0 : 8, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { show: false },
    },
    scales: {
      x: { time: false, range: () => [data.from, data.to] },
      w: { range: spread },
      "%": { range: () => [0, 100] },
    },
    axes,
    series,
    hooks: {
      drawAxes: [drawAreas],
      setCursor: [(u) => legend(u.cursor.idx)],
    },
  };
}

// -- legend ---------------------------------------------------------------------------------------

const rows = [];

function swatch(area, line) {
  const canvas = document.createElement("canvas");
  const ratio = devicePixelRatio || 1;
  canvas.width = canvas.height = 14 * ratio;
  canvas.className = "swatch";
  const pen = canvas.getContext("2d");
  if (area) {
    pen.fillStyle = pattern(area);
    pen.fillRect(0, 0, canvas.width, canvas.height);
  } else {
    pen.strokeStyle = css(line ? line.colour : "--ink");
    pen.lineWidth = 2 * ratio;
    pen.setLineDash((line ? line.dash : [5, 3]).map((length) => length * ratio));
    pen.moveTo(0, 7 * ratio);
    pen.lineTo(14 * ratio, 7 * ratio);
    pen.stroke();
  }
  return canvas;
}

function addRow(list, area, name, read, idle, about, line) {
  const row = document.createElement("div");
  const term = document.createElement("dt");
  const value = document.createElement("dd");
  term.append(swatch(area, line), name);
  if (about) row.title = about;
  value.textContent = idle;
  row.append(term, value);
  list.append(row);
  rows.push({ value, read, idle });
}

function buildLegend() {
  rows.length = 0;
  const lists = {
    up: document.getElementById("legend-up"),
    down: document.getElementById("legend-down"),
    rest: document.getElementById("legend-rest"),
  };
  for (const list of Object.values(lists)) list.replaceChildren();
  const inner = { up: null, down: null };
  for (const area of data.areas) {
    const below = inner[area.side];
    const read = (i) =>
      area.edge[i] === null ? "–" : power(Math.abs(area.edge[i] - (below ? below[i] : 0)));
    addRow(lists[area.side], area, area.label, read, area.total, area.meaning);
    inner[area.side] = area.edge;
  }
  for (const line of data.lines) {
    const read = (i) => power(line.edge[i] === null ? null : Math.abs(line.edge[i]));
    const list = line.key === "load" ? lists.up : lists.down;
    addRow(list, null, line.label, read, line.total, "", LINES[line.key]);
  }
  if (data.soc) {
    const read = (i) => (data.soc[i] === null ? "–" : `${Math.round(data.soc[i])}\u00a0%`);
    const known = data.soc.filter((v) => v !== null);
    const range = `${Math.round(Math.min(...known))}–${Math.round(Math.max(...known))}\u00a0%`;
    addRow(lists.rest, null, holder.dataset.soc, read, range, "");
  }
  document.getElementById("legend").hidden = false;
}

function legend(at) {
  const none = at === null || at === undefined;
  const shown = pointed ?? (none ? null : data.t[at]);
  document.getElementById("legend-time").textContent =
    shown === null ? holder.dataset.all : local(shown);
  for (const row of rows) row.value.textContent = none ? row.idle : row.read(at);
}

// -- pins -----------------------------------------------------------------------------------------

const events = document.getElementById("events");
let pins = [];
let pointed = null; // what happened, while the line stands there

const eventRows = () => [...(events?.querySelectorAll("li[data-t]") || [])];

function weight(row) {
  const at = LEVELS.indexOf(row.dataset.level);
  return at < 0 ? (row.dataset.tone === "bad" ? 1 : LEVELS.length) : at;
}

function drawPins() {
  pins = [];
  for (const row of eventRows()) {
    const left = plot.valToPos(Number(row.dataset.t), "x");
    const last = pins[pins.length - 1];
    if (last && left - last.left < PIN) last.rows.push(row);
    else pins.push({ left, rows: [row] });
  }
  for (const pin of pins) {
    const row = pin.rows.reduce((best, each) => (weight(each) < weight(best) ? each : best));
    const node = document.createElement("span");
    node.className = "pin";
    node.setAttribute("aria-hidden", "true");
    node.dataset.level = row.dataset.level;
    node.dataset.tone = row.dataset.tone;
    node.title = pin.rows
      .map((each) => each.textContent.trim().replace(/\s+/g, " "))
      .slice(0, 5)
      .join("\n");
    node.append(row.querySelector("svg").cloneNode(true));
    if (pin.rows.length > 1) {
      const count = document.createElement("b");
      count.textContent = String(pin.rows.length);
      node.append(count);
    }
    node.style.left = `${pin.left}px`;
    node.addEventListener("mousemove", (event) => {
      event.stopPropagation(); // the line stands where it happened, not where the pointer is
      point(row);
    });
    node.addEventListener("click", () => {
      row.scrollIntoView({ block: "nearest" });
      row.querySelector("a").focus({ preventScroll: true });
    });
    pin.node = node;
    plot.over.append(node);
  }
  const focused = document.activeElement?.closest("#events li[data-t]");
  if (focused) point(focused);
}

function point(row) {
  if (!plot || !data) return;
  pointed = row ? Number(row.dataset.t) : null;
  const left = row ? plot.valToPos(pointed, "x") : -10;
  plot.setCursor({ left, top: row ? 10 : -10 });
  pointed = null;
  for (const each of eventRows()) each.classList.toggle("told", each === row);
  for (const pin of pins) pin.node.classList.toggle("told", pin.rows.includes(row));
}

if (events && holder) {
  const over = (event) => {
    const row = event.target.closest("li[data-t]");
    if (row) point(row);
  };
  events.addEventListener("pointerover", over);
  events.addEventListener("focusin", over);
  events.addEventListener("pointerleave", () => point(null));
  events.addEventListener("focusout", () => point(null));
}

// What the portal says of today grows: the list and the totals are taken from the page anew.
async function renew() {
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["events", "totals"]) {
      const old = document.getElementById(id);
      const fresh = page.getElementById(id);
      if (!old || !fresh || old.contains(document.activeElement)) continue;
      if (isPressed(old, renew)) continue;
      if (old.innerHTML !== fresh.innerHTML) old.replaceChildren(...fresh.childNodes);
    }
  } catch {
    // the curves say when the portal is away
  }
}

// -- life -----------------------------------------------------------------------------------------

function draw() {
  if (!data) return;
  if (plot) plot.destroy();
  patterns = new Map();
  const columns = [data.t, ...data.areas.map((area) => area.edge)];
  if (data.soc) columns.push(data.soc);
  const made = options();
  made.hooks.ready = [
    (u) => {
      plot = u;
      drawPins(); // from here on it knows where a time is
      holder.dataset.drawn = String(data.t.length);
    },
  ];
  const areas = made.hooks.drawAxes[0];
  made.hooks.drawAxes = [
    (u) => {
      plot = u;
      areas(u);
      drawLines(u);
    },
  ];
  plot = new uPlot(made, columns, holder);
  buildLegend();
}

async function load() {
  const note = document.getElementById("chart-note");
  try {
    const answer = await fetch(holder.dataset.source, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    data = await answer.json();
    await document.fonts.ready;
    note.hidden = true;
    draw();
  } catch {
    note.textContent = holder.dataset.failed;
    note.hidden = false;
  }
}

if (holder) {
  let width = 0;
  new ResizeObserver(() => {
    if (holder.clientWidth !== width) {
      width = holder.clientWidth;
      draw();
    }
  }).observe(holder);
  document.addEventListener("themechange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  holder.addEventListener("keydown", (event) => {
    if (!plot || !data) return;
    const last = data.t.length - 1;
    const at = plot.cursor.idx ?? last;
    const step = event.shiftKey ? 24 : 1;
    const next = {
      ArrowLeft: Math.max(0, at - step),
      ArrowRight: Math.min(last, at + step),
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    plot.setCursor({ left: plot.valToPos(data.t[next], "x"), top: 10 });
  });
  holder.addEventListener("blur", () => plot && plot.setCursor({ left: -10, top: -10 }));
  load();
  if ("today" in holder.dataset) {
    setInterval(async () => {
      if (document.hidden) return;
      await renew();
      load();
    }, 60000);
  }
}
