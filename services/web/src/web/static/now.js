// Keeps the page as it is now: server-sent events, else a question every five seconds. All texts
// come worked out from the portal; only ages are counted here.
const main = document.getElementById("main");
const tip = document.getElementById("tip");
const POLL_MS = 5000;
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
    const open = new Map(
      [...main.querySelectorAll("details")].map((element) => [element.id, element.open]),
    );
    main.innerHTML = await answer.text();
    for (const element of main.querySelectorAll("details")) {
      if (open.has(element.id)) element.open = open.get(element.id);
    }
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

function take(message, whole) {
  heard = Date.now();
  ahead = message.now - heard;
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

function age(seconds) {
  const whole = Math.max(0, seconds);
  if (whole < 100) return `${Math.round(whole)}\u00a0s`;
  if (whole < 5400) return `${Math.round(whole / 60)}\u00a0min`;
  if (whole < 172800) return `${Math.round(whole / 3600)}\u00a0h`;
  return `${Math.round(whole / 86400)}\u00a0days`;
}

function clock(ms) {
  return new Date(ms + offset * 1000).toISOString().slice(11, 19);
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
        ? slots[`device.${name}.seen`] || `last seen ${clock(fresh.ms).slice(0, 5)}`
        : `${age(fresh.old / 1000)} ago`;
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
const LINKS = {
  static: "as of this page\u2019s load",
  live: "live",
  polling: "asking every 5\u00a0s",
  away: "the portal does not answer",
};

function link(state) {
  linkState = state;
  const element = document.getElementById("link");
  if (element) {
    element.dataset.state = state;
    element.textContent =
      state === "away" ? `${LINKS.away} since ${clock(heard + ahead).slice(0, 5)}` : LINKS[state];
  }
  main.classList.toggle("away", state === "away");
}

async function poll() {
  clearTimeout(pollTimer);
  try {
    const answer = await fetch(main.dataset.snapshot, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    take(await answer.json(), true);
    if (linkState !== "live") link("polling");
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

setInterval(() => {
  ages();
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

const QUALITY = { suspect: "implausible", stale: "kept from before the outage", lost: "old" };

function explain(element) {
  const lines = [];
  if (element.dataset.about) lines.push(element.dataset.about);
  const name = element.dataset.src;
  if (name) {
    const fresh = freshness(name);
    const quality = QUALITY[slots[element.dataset.q]] || (fresh.state === "lost" ? "old" : "good");
    lines.push(`${name} · ${clock(fresh.ms)}, ${age(fresh.old / 1000)} ago · ${quality}`);
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

// A link to a device opens it.
document.addEventListener("click", (event) => {
  const anchor = event.target.closest('a[href^="#device-"]');
  const target = anchor && document.getElementById(anchor.hash.slice(1));
  if (target) target.open = true;
});

index();
connect();
