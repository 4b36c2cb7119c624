// Keeps what stands in islands ([data-live]) as it is now: when the portal says that the page has
// changed, it is fetched again and its islands are exchanged. What somebody is typing in is left alone.
import { isPressed } from "./press.js";
import { ago, span } from "./spans.js";

const main = document.getElementById("main");
const POLL_MS = 4000;
const SILENCE_MS = 40000;

let source = null;
let mark = null;
let heard = Date.now();
let timer = 0;
let running = false;
let again = false;
const ahead = Number(main.dataset.now || Date.now()) - Date.now();
const now = () => Date.now() + ahead;
const shown = new Map(); // what each island shows, as the portal wrote it
for (const island of document.querySelectorAll("[data-live][id]")) shown.set(island.id, island.outerHTML);

function isTouched(element) {
  if (element.type === "hidden" || element.type === "submit") return false;
  if (element.type === "radio" || element.type === "checkbox")
    return element.checked !== element.defaultChecked;
  if (element.options) return [...element.options].some((o) => o.selected !== o.defaultSelected);
  return element.value !== element.defaultValue;
}

function isBusy(island) {
  const active = document.activeElement;
  if (island.contains(active) && active.matches("input, select, textarea")) return true;
  return [...island.querySelectorAll("input, select")].some(isTouched);
}

async function renew() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.status === 401 || answer.redirected) location.reload();
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const island of document.querySelectorAll("[data-live][id]")) {
      const next = fresh.getElementById(island.id);
      if (!next || next.outerHTML === shown.get(island.id)) continue;
      if (isBusy(island) || isPressed(island, renew)) continue;
      const open = new Set([...island.querySelectorAll("details[open]")].map((e) => e.id));
      const replaced = document.importNode(next, true);
      shown.set(island.id, next.outerHTML);
      for (const element of replaced.querySelectorAll("details"))
        element.open = element.id !== "" && open.has(element.id);
      island.replaceWith(replaced);
    }
    tick();
  } catch {
    // the next event, or the timer, tries again
  } finally {
    running = false;
    if (again) {
      again = false;
      renew();
    }
  }
}

// -- ages and countdowns ----------------------------------------------------------------------------


function countdown(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const rest = String(whole % 60).padStart(2, "0");
  return whole < 3600 ? `${Math.floor(whole / 60)}:${rest}` : span(whole);
}

function tick() {
  for (const element of document.querySelectorAll("[data-age]")) {
    const text = ago((now() - Number(element.dataset.age)) / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of document.querySelectorAll("[data-until]")) {
    const left = (Number(element.dataset.until) - now()) / 1000;
    const text = countdown(left);
    if (element.textContent !== text) element.textContent = text;
    if (left < 0 && left > -1.5) renew();
  }
}

// -- how many settings differ -----------------------------------------------------------------------

function count(form) {
  const fields = [...form.querySelectorAll('[name^="set."]')].filter(isTouched);
  for (const row of form.querySelectorAll(".setting"))
    row.classList.toggle("touched", fields.some((field) => row.contains(field)));
  const button = form.querySelector("[data-count]");
  button.textContent = fields.length
    ? button.dataset.count.replace("{n}", String(fields.length))
    : button.dataset.none;
  button.disabled = fields.length === 0;
  button.parentElement.classList.toggle("sticky", fields.length > 0);
}

for (const form of document.querySelectorAll("form[data-settings]")) {
  form.addEventListener("input", () => count(form));
  addEventListener("pageshow", () => count(form)); // a browser may fill in what was typed before
  count(form);
}

// -- the connection ---------------------------------------------------------------------------------

function poll() {
  clearTimeout(timer);
  renew();
  timer = setTimeout(poll, POLL_MS);
}

function connect() {
  if (source) source.close();
  source = new EventSource(main.dataset.liveSource);
  source.addEventListener("changed", (event) => {
    heard = Date.now();
    clearTimeout(timer);
    if (event.data !== mark) renew();
    mark = event.data;
  });
  source.addEventListener("error", () => {
    poll(); // too many pages, or no portal: asking does as well
    if (source.readyState === EventSource.CLOSED) setTimeout(() => !document.hidden && connect(), 20000);
  });
}

setInterval(() => {
  tick();
  if (Date.now() - heard > SILENCE_MS && !document.hidden) {
    heard = Date.now();
    renew();
  }
}, 1000);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
  } else if (!source) {
    connect();
  }
});
addEventListener("pagehide", () => source && source.close());
addEventListener("pageshow", (event) => event.persisted && connect());

tick();
connect();
