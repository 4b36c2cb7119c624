// Keeps the page as it is now: server-sent events, else a question every five seconds. All texts
// come worked out from the portal; only ages are counted here.
import { isPressed } from "./press.js";
import { ago } from "./spans.js";

const main = document.getElementById("main");
const tip = document.getElementById("tip");
const POLL_MS = 5000;
const KEEP_MS = 20000;
const SILENCE_MS = 40000;

let slots = {};
let places = new Map();
let layout = main.dataset.layout;
let offset = Number(main.dataset.offset);
let ahead = Number(main.dataset.now) - Date.now(); // the portal's clock less this browser's
let source = null;
let heard = Date.now();
let pollTimer = 0;
let connectTimer = 0;
let rebuilding = false;

const now = () => Date.now() + ahead;

function attribute(name) {
  return (element, text) => element.setAttribute(name, text);
}

const KINDS = {
  s: (element, text) => {
    element.textContent = text;
  },
  c: attribute("data-state"),
  w: attribute("stroke-width"),
  width: (element, text) => element.setAttribute("width", text || "0"),
  dash: (element, text) => element.setAttribute("stroke-dasharray", `${text || 0} 100`),
  note: attribute("data-about"),
};

function index() {
  places = new Map();
  for (const [kind, write] of Object.entries(KINDS)) {
    for (const element of document.querySelectorAll(`[data-${kind}]`)) {
      const key = element.dataset[kind];
      if (!places.has(key)) places.set(key, []);
      places.get(key).push([element, write]);
    }
  }
}

function write(changed) {
  for (const [key, text] of Object.entries(changed)) {
    slots[key] = text;
    for (const [element, put] of places.get(key) || []) {
      if (put !== KINDS.s || element.textContent !== text) put(element, text);
    }
  }
}

async function rebuild(wanted) {
  if (rebuilding) return;
  rebuilding = true;
  try {
    const answer = await fetch(main.dataset.part, { cache: "no-store" });
    if (!answer.ok) return;
    const text = await answer.text();
    if (isPressed(main, () => rebuild(wanted))) return;
    main.innerHTML = text;
    layout = wanted;
    index();
    write(slots);
    ages();
    link(linkState);
  } catch {
    // the next message tries again
  } finally {
    rebuilding = false;
  }
}

function take(message, whole, old = false) {
  if (!old) {
    heard = Date.now();
    ahead = message.now - heard;
  }
  asOf = message.now;
  offset = message.offset;
  if (whole) slots = {};
  if (message.layout !== layout) {
    Object.assign(slots, message.slots);
    rebuild(message.layout);
  } else {
    write(message.slots);
  }
  ages();
}

// -- ages -----------------------------------------------------------------------------------------

function clock(ms) {
  return new Date(ms + offset * 1000).toISOString().slice(11, 19);
}

function when(ms) {
  // Of another day, that day too.
  const days = Math.floor((ms + offset * 1000) / 86400000);
  const today = Math.floor((now() + offset * 1000) / 86400000);
  const time = clock(ms).slice(0, 5);
  if (days === today) return time;
  const form = { day: "numeric", month: "short", timeZone: "UTC" };
  const date = new Date(ms + offset * 1000).toLocaleDateString(document.documentElement.lang, form);
  return `${date}, ${time}`;
}

function freshness(name) {
  const ms = Number(slots[`device.${name}.ms`] || 0);
  const period = Number(slots[`device.${name}.period`] || 5000);
  const state = slots[`device.${name}.state`] || "lost";
  const old = now() - ms;
  if (!ms || state === "lost" || state === "asleep") {
    return { ms, state: state === "asleep" ? state : "lost", left: 0, old };
  }
  const worked = old < 2 * period ? "fresh" : old < 5 * period ? "late" : "lost";
  return { ms, state: worked, left: Math.max(0, 1 - old / (5 * period)), old };
}

function ages() {
  if (!("sentence" in slots)) return;
  for (const element of main.querySelectorAll("[data-age]")) {
    const name = element.dataset.age;
    const fresh = freshness(name);
    const text =
      fresh.state === "lost" || fresh.state === "asleep"
        ? slots[`device.${name}.seen`] || main.dataset.seen.replace("{when}", when(fresh.ms))
        : ago(fresh.old / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of main.querySelectorAll("[data-fresh]")) {
    element.dataset.state = freshness(element.dataset.fresh).state;
  }
  for (const element of main.querySelectorAll("[data-left]")) {
    element.setAttribute("width", (freshness(element.dataset.left).left * 100).toFixed(1));
  }
}

// -- the connection -------------------------------------------------------------------------------

let linkState = "static";
let asOf = Number(main.dataset.now); // the portal's time of what stands here
function link(state) {
  linkState = state;
  const element = document.getElementById("link");
  if (element) {
    element.dataset.state = state;
    const key = `text${state[0].toUpperCase()}${state.slice(1)}`;
    element.textContent = element.dataset[key].replace("{when}", when(asOf));
  }
  main.classList.toggle("away", state === "away" || state === "offline");
}

async function poll() {
  clearTimeout(pollTimer);
  try {
    const answer = await fetch(main.dataset.snapshot, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const old = answer.headers.has("X-Offline"); // the service worker's, from when there was one
    take(await answer.json(), true, old);
    if (old) link("offline");
    else if (linkState !== "live") link("polling");
  } catch {
    if (linkState !== "live") link("away");
  }
  if (linkState !== "live") pollTimer = setTimeout(poll, POLL_MS);
}

function connect(wait = 0) {
  if (source) source.close();
  source = null;
  clearTimeout(connectTimer);
  connectTimer = setTimeout(() => {
    source = new EventSource(main.dataset.live);
    const hear = (whole) => (event) => {
      take(JSON.parse(event.data), whole);
      clearTimeout(pollTimer);
      link("live");
    };
    source.addEventListener("full", hear(true));
    source.addEventListener("patch", hear(false));
    source.addEventListener("open", () => {
      heard = Date.now();
    });
    source.addEventListener("error", () => {
      // Refused for good (too many pages: 503) or cut: this page asks, and tries again itself.
      const refused = source.readyState === EventSource.CLOSED;
      if (linkState === "live" || linkState === "static") link("polling");
      poll();
      if (refused) connect(linkState === "away" ? 3000 : 20000);
    });
  }, wait);
}

// -- for when the portal is away -------------------------------------------------------------------

let keptAt = 0;

async function keep() {
  // The stream brings only changes, so what stands here is put where the service worker finds it.
  if (linkState !== "live" || Date.now() - keptAt < KEEP_MS || !navigator.serviceWorker?.controller)
    return;
  keptAt = Date.now();
  const content = JSON.stringify({ now: asOf, offset, layout, slots });
  const headers = { "Content-Type": "application/json" };
  try {
    const cache = await caches.open("last");
    await cache.put(main.dataset.snapshot, new Response(content, { headers }));
  } catch {
    // a full disk, a private window
  }
}

setInterval(() => {
  ages();
  keep();
  if (linkState === "live" && Date.now() - heard > SILENCE_MS && !document.hidden) {
    heard = Date.now();
    poll(); // a quiet house or a dead line: the answer tells
  }
}, 1000);

document.addEventListener("visibilitychange", () => {
  // A page in the background gives its stream back.
  if (document.hidden) {
    if (source) source.close();
    source = null;
    clearTimeout(connectTimer);
    clearTimeout(pollTimer);
  } else if (!source) {
    connect();
  }
});
addEventListener("pagehide", () => source && source.close());
addEventListener("pageshow", (event) => {
  if (event.persisted) connect();
});

// -- where a value comes from ----------------------------------------------------------------------

const QUALITY = { suspect: "suspect", stale: "stale", lost: "lost" };

function explain(element) {
  const lines = [];
  if (element.dataset.about) lines.push(element.dataset.about);
  const name = element.dataset.src;
  if (name) {
    const fresh = freshness(name);
    const quality = QUALITY[slots[element.dataset.q]] || (fresh.state === "lost" ? "lost" : "good");
    lines.push(`${name} · ${clock(fresh.ms)}, ${ago(fresh.old / 1000)} · ${main.dataset[quality]}`);
  }
  return lines.join("\n");
}

function showTip(event) {
  const element = event.target.closest("[data-src], [data-about]");
  if (!element) {
    tip.hidden = true;
    return;
  }
  tip.textContent = explain(element);
  if (!tip.textContent) return;
  tip.hidden = false;
  const box = element.getBoundingClientRect();
  const left = Math.min(
    Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2),
    document.documentElement.clientWidth - tip.offsetWidth - 8,
  );
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : box.bottom + 6) + scrollY}px`;
}

document.addEventListener("pointerover", showTip);
document.addEventListener("focusin", showTip);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip.hidden = true;
});

index();
connect();
