// Keeps what stands in islands ([data-live]) as it is now: the page is asked again every few seconds
// while somebody looks, and what differs is exchanged. What is being typed in or looked at by
// keyboard stays.
import { isPressed } from "./press.js";

const EVERY_MS = 5000;
const AWAY_MS = 20000;

let timer = 0;
let heard = Date.now();

function address() {
  const url = new URL(location.href);
  url.hash = "";
  url.searchParams.set("part", "live");
  return url;
}

function isBusy(island) {
  const active = document.activeElement;
  return active !== document.body && active !== island && island.contains(active);
}

async function renew() {
  clearTimeout(timer);
  try {
    const answer = await fetch(address(), { cache: "no-store" });
    if (answer.status === 401) location.reload();
    if (answer.ok) {
      exchange(new DOMParser().parseFromString(await answer.text(), "text/html"));
      heard = Date.now();
    }
  } catch {
    // asked again below
  }
  const away = document.getElementById("away");
  if (away) away.hidden = Date.now() - heard < AWAY_MS;
  if (!document.hidden) timer = setTimeout(renew, EVERY_MS);
}

function exchange(fresh) {
  for (const island of document.querySelectorAll("[data-live][id]")) {
    const next = fresh.getElementById(island.id);
    if (!next || next.outerHTML === island.outerHTML) continue;
    if (isBusy(island) || isPressed(island, renew)) continue;
    const open = new Set([...island.querySelectorAll("details[open]")].map((e) => e.id));
    const replaced = document.importNode(next, true);
    for (const element of replaced.querySelectorAll("details[id]"))
      element.open = open.has(element.id) || element.open;
    island.replaceWith(replaced);
  }
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden) renew();
});
addEventListener("pageshow", (event) => event.persisted && renew());
timer = setTimeout(renew, EVERY_MS);
