// What every chart here shares: colours and patterns of portal.css, numbers of the page's language,
// the site's clock, redrawing on another width or other colours, the cursor by keyboard and finger.
//
// A page without a script of its own writes
//   <div class="plot" data-chart data-source="/…json" tabindex="0" role="img" aria-label="…"></div>
// and answers there with what `curves` below takes. Every text comes from the portal.
const LOCALE = document.documentElement.lang === "en" ? "en-GB" : document.documentElement.lang;
const HARD = "\u00a0";
const NONE = "–";

export const css = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// -- numbers and times -----------------------------------------------------------------------------

const formats = new Map();

export function number(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (!formats.has(digits)) {
    formats.set(
      digits,
      new Intl.NumberFormat(LOCALE || "en-GB", {
        minimumFractionDigits: digits,
        maximumFractionDigits: digits,
      }),
    );
  }
  const rounded = Number(value.toFixed(digits)) || 0; // no "-0"
  return formats.get(digits).format(rounded).replace("-", "\u2212");
}

export function power(watts) {
  if (watts === null || watts === undefined) return NONE;
  if (Math.abs(Math.round(watts)) < 1000) return `${number(watts)}${HARD}W`;
  return `${number(watts / 1000, 2)}${HARD}kW`;
}

export function amount(value, unit, digits) {
  if (value === null || value === undefined) return NONE;
  if (unit === "W") return power(value);
  return unit ? `${number(value, digits)}${HARD}${unit}` : number(value, digits);
}

/** The wall clock of the site: `offsets` are pairs of [from second, offset]. */
export function local(seconds, offsets, dated = false) {
  let offset = 0;
  for (const [from, value] of offsets) if (seconds >= from) offset = value;
  const moment = new Date((seconds + offset) * 1000);
  const time = moment.toISOString().slice(11, 16);
  if (!dated) return time;
  const date = new Intl.DateTimeFormat(LOCALE || "en-GB", {
    day: "numeric",
    month: "short",
    timeZone: "UTC",
  }).format(moment);
  return `${date}, ${time}`;
}

// -- patterns --------------------------------------------------------------------------------------

/** A fill of `colour` that is told apart without it: plain, stripes, dots, cross or hatch. */
export function pattern(ctx, colour, kind) {
  const ratio = devicePixelRatio || 1;
  const size = Math.round(8 * ratio);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  const thin = kind === "cross" || kind === "hatch";
  if (kind !== "hatch") {
    pen.globalAlpha = kind === "cross" ? 0.25 : 0.82;
    pen.fillStyle = colour;
    pen.fillRect(0, 0, size, size);
  }
  pen.globalAlpha = kind === "hatch" ? 0.75 : thin ? 0.6 : 0.32;
  pen.strokeStyle = thin ? colour : css("--surface");
  pen.fillStyle = pen.strokeStyle;
  pen.lineWidth = 1.4 * ratio;
  pen.beginPath();
  if (kind === "stripes" || thin) {
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
  return ctx.createPattern(tile, "repeat");
}

// -- life ------------------------------------------------------------------------------------------

/** Calls `draw` again when the holder's width or the colours change. */
export function keep(holder, draw) {
  let width = 0;
  new ResizeObserver(() => {
    if (holder.clientWidth !== width) {
      width = holder.clientWidth;
      draw();
    }
  }).observe(holder);
  document.addEventListener("themechange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

/** Moves the cursor of `plot()` over `times()` by arrow keys, Home, End and a finger. */
export function drive(holder, plot, times) {
  const put = (u, at) => u.setCursor({ left: u.valToPos(times()[at], "x"), top: 10 });
  const away = () => plot()?.setCursor({ left: -10, top: -10 });
  holder.addEventListener("keydown", (event) => {
    const u = plot();
    if (!u || !times().length) return;
    const last = times().length - 1;
    const at = u.cursor.idx ?? last;
    const step = event.shiftKey ? Math.max(1, Math.round(last / 24)) : 1;
    const next = {
      ArrowLeft: Math.max(0, at - step),
      ArrowRight: Math.min(last, at + step),
      Home: 0,
      End: last,
    }[event.key];
    if (next === undefined) {
      if (event.key === "Escape") away();
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    put(u, next);
  });
  holder.addEventListener("blur", away);
  holder.addEventListener(
    "touchmove",
    (event) => {
      const u = plot();
      if (!u || event.touches.length !== 1) return;
      const left = event.touches[0].clientX - u.over.getBoundingClientRect().left;
      u.setCursor({ left: Math.max(0, Math.min(left, u.over.clientWidth - 1)), top: 10 });
    },
    { passive: true },
  );
}

export const axisStyle = () => ({
  stroke: css("--muted"),
  font: "12px Inter, system-ui, sans-serif",
  grid: { stroke: css("--line"), width: 1 },
  ticks: { show: false },
});

/** The axis of time: marks come from the portal, every second one on a narrow screen. */
export function timeAxis(data, width) {
  const room = Math.max(2, Math.floor(width / 48));
  const every = Math.max(1, Math.ceil(data.ticks.length / room));
  const shown = data.ticks.filter((tick, index) => index % every === 0);
  const names = new Map(shown);
  return {
    ...axisStyle(),
    splits: () => shown.map(([t]) => t),
    values: (u, marks) => marks.map((t) => names.get(t) || ""),
    size: 26,
    gap: 6,
  };
}

const DASHES = { solid: undefined, dashed: [6, 3], dotted: [2, 4], long: [10, 4] };

// -- curves ----------------------------------------------------------------------------------------

/** Draws `data` into `holder`; called again it replaces what was there.
 *
 * data = {
 *   from, to, offsets, ticks      of the axis of time, as `web.axis.axis` makes them [s]
 *   t: [s, …]                     one time for each value
 *   curves: [{label, unit, digits, colour: "--sun", dash, width, axis: "left" | "right",
 *             values: […, null = a gap], low, high: the range around it, steps, fill}]
 *   left, right: {min, max}       fixed ends of the axes, if any
 *   bands: [{from, to, label, colour, pattern}]   stretches behind the curves
 *   lines: [{value, label, axis}] levels such as limits
 * }
 */
export function curves(holder, data) {
  const state = holder.chart || {};
  state.data = data;
  if (!holder.chart) {
    holder.chart = state;
    keep(holder, () => draw(holder));
    drive(
      holder,
      () => state.plot,
      () => state.data.t,
    );
  }
  draw(holder);
}

function draw(holder) {
  const state = holder.chart;
  const { data } = state;
  if (!data || !holder.clientWidth) return;
  const begun = performance.now();
  state.plot?.destroy();
  const narrow = holder.clientWidth < 560;
  const columns = [data.t];
  const series = [{}];
  const bands = [];
  const used = new Set();
  for (const curve of data.curves) {
    const scale = curve.axis || "left";
    used.add(scale);
    const colour = css(curve.colour);
    if (curve.low && curve.high) {
      series.push({ scale, paths: quiet(curve), points: { show: false } });
      series.push({ scale, paths: quiet(curve), points: { show: false } });
      columns.push(curve.high, curve.low);
      bands.push({
        series: [series.length - 2, series.length - 1],
        fill: `color-mix(in srgb, ${colour} 22%, transparent)`,
      });
    }
    series.push({
      scale,
      stroke: colour,
      width: curve.width || 1.8,
      dash: DASHES[curve.dash],
      fill: curve.fill ? `color-mix(in srgb, ${colour} 18%, transparent)` : undefined,
      paths: curve.steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
      spanGaps: false,
      points: { show: data.t.length < 2 },
    });
    columns.push(curve.values);
  }
  const of = (side) => data.curves.find((curve) => (curve.axis || "left") === side);
  const axes = [timeAxis(data, holder.clientWidth)];
  for (const side of ["left", "right"]) {
    const first = of(side);
    if (!first) continue;
    axes.push({
      ...axisStyle(),
      ...(side === "right" ? { side: 1, grid: { show: false } } : {}),
      scale: side,
      values: (u, marks) => labels(marks, first, narrow),
      size: (u, texts) => 14 + 6.6 * Math.max(2, ...(texts || []).map((text) => text.length)),
      gap: 5,
    });
  }
  const ends = (side) => (u, low, high) => {
    const fixed = data[side] || {};
    const levels = (data.lines || []).filter((l) => (l.axis || "left") === side);
    const known = [low, high, ...levels.map((l) => l.value)].filter((v) => v !== null);
    if (!known.length) return [0, 1];
    let [from, to] = [Math.min(...known), Math.max(...known)];
    const air = (to - from || Math.abs(to) || 1) * 0.06;
    from = fixed.min ?? (from >= 0 && from - air < 0 ? 0 : from - air);
    to = fixed.max ?? to + air;
    return [from, Math.max(to, from + 1e-6)];
  };
  state.plot = new uPlot(
    {
      width: holder.clientWidth,
      height: Number(holder.dataset.height) || Math.round(Math.min(340, Math.max(210, holder.clientWidth * 0.4))),
      padding: [10, used.has("right") ? 0 : 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, range: () => [data.from, data.to] },
        left: { range: ends("left") },
        right: { range: ends("right") },
      },
      axes,
      series,
      bands,
      hooks: {
        drawClear: [(u) => drawBands(u, data)],
        draw: [(u) => drawLevels(u, data)],
        setCursor: [(u) => tell(holder, u)],
      },
    },
    columns,
    holder,
  );
  tell(holder, state.plot);
  holder.dataset.drawn = String(data.t.length);
  requestAnimationFrame(() => {
    holder.dataset.took = (performance.now() - begun).toFixed(1);
  });
}

const quiet = (curve) => (curve.steps ? uPlot.paths.stepped({ align: 1 }) : undefined);

function labels(marks, curve, narrow) {
  const step = marks.length > 1 ? Math.abs(marks[1] - marks[0]) : 1;
  const watts = curve.unit === "W";
  const unit = watts ? "kW" : curve.unit;
  const size = watts ? step / 1000 : step;
  const digits = size >= 1 ? 0 : Math.min(4, Math.ceil(-Math.log10(size) - 1e-9));
  return marks.map((mark) => {
    const text = number(watts ? mark / 1000 : mark, digits);
    return unit && !narrow ? `${text}${HARD}${unit}` : text;
  });
}

function drawBands(u, data) {
  const { ctx } = u;
  for (const band of data.bands || []) {
    const left = Math.max(u.valToPos(band.from, "x", true), u.bbox.left);
    const right = Math.min(u.valToPos(band.to, "x", true), u.bbox.left + u.bbox.width);
    if (right <= left) continue;
    const colour = css(band.colour || "--unknown");
    ctx.save();
    ctx.globalAlpha = band.pattern ? 0.5 : 0.14;
    ctx.fillStyle = band.pattern ? pattern(ctx, colour, band.pattern) : colour;
    ctx.fillRect(left, u.bbox.top, Math.max(1, right - left), u.bbox.height);
    ctx.restore();
  }
}

function drawLevels(u, data) {
  const { ctx } = u;
  const ratio = devicePixelRatio || 1;
  for (const level of data.lines || []) {
    const y = Math.round(u.valToPos(level.value, level.axis || "left", true)) + 0.5;
    ctx.save();
    ctx.strokeStyle = css("--muted");
    ctx.fillStyle = css("--muted");
    ctx.lineWidth = ratio;
    ctx.setLineDash([3 * ratio, 3 * ratio]);
    ctx.beginPath();
    ctx.moveTo(u.bbox.left, y);
    ctx.lineTo(u.bbox.left + u.bbox.width, y);
    ctx.stroke();
    ctx.font = `${11 * ratio}px Inter, system-ui, sans-serif`;
    ctx.fillText(level.label || "", u.bbox.left + 4 * ratio, y - 4 * ratio);
    ctx.restore();
  }
}

/** Writes time and values at the cursor into the legend, which is made beneath the chart. */
function tell(holder, u) {
  const { data } = holder.chart;
  let list = holder.nextElementSibling;
  if (!list?.classList.contains("readout")) {
    list = document.createElement("dl");
    list.className = "readout";
    holder.after(list);
  }
  const at = u.cursor.idx;
  const none = at === null || at === undefined || u.cursor.left < 0;
  const long = data.to - data.from > 90000;
  const rows = [
    ["", none ? holder.dataset.whole || "" : local(data.t[at], data.offsets, long)],
    ...data.curves.map((curve) => [
      curve,
      none ? curve.total || "" : amount(curve.values[at], curve.unit, curve.digits),
    ]),
  ];
  if (list.children.length !== rows.length) {
    list.replaceChildren(
      ...rows.map(([curve]) => {
        const row = document.createElement("div");
        const term = document.createElement("dt");
        if (curve) term.append(mark(curve), curve.label);
        row.append(term, document.createElement("dd"));
        return row;
      }),
    );
    list.dataset.colours = css("--ink");
  } else if (list.dataset.colours !== css("--ink")) {
    data.curves.forEach((curve, index) => {
      list.children[index + 1].querySelector("canvas").replaceWith(mark(curve));
    });
    list.dataset.colours = css("--ink");
  }
  rows.forEach(([, text], index) => {
    list.children[index].lastElementChild.textContent = text;
  });
}

/** A short piece of the line, as the chart draws it. */
export function mark(curve) {
  const canvas = document.createElement("canvas");
  const ratio = devicePixelRatio || 1;
  canvas.width = 18 * ratio;
  canvas.height = 14 * ratio;
  canvas.className = "swatch line";
  const pen = canvas.getContext("2d");
  pen.strokeStyle = css(curve.colour);
  pen.lineWidth = 2.2 * ratio;
  pen.setLineDash((DASHES[curve.dash] || []).map((length) => length * ratio));
  pen.moveTo(0, 7 * ratio);
  pen.lineTo(18 * ratio, 7 * ratio);
  pen.stroke();
  return canvas;
}

// -- charts without a script of their own ------------------------------------------------------------

async function fetched(holder) {
  const note = holder.parentElement.querySelector(".chart-note");
  try {
    const answer = await fetch(holder.dataset.source, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const data = await answer.json();
    await document.fonts.ready;
    curves(holder, data);
    if (note) note.hidden = true;
  } catch {
    if (note) note.hidden = false; // the template has said there why
    holder.dataset.failed = "";
  }
}

export function start(root = document) {
  for (const holder of root.querySelectorAll("[data-chart][data-source]")) {
    if (!holder.chart) fetched(holder);
  }
}

start();
document.addEventListener("htmx:afterSettle", (event) => start(event.target));
