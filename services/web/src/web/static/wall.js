// A tablet on the wall: the house as it is now, a few pixels aside each minute so that nothing burns
// in, dark and dim when the portal says that it is night.
const main = document.getElementById("main");
const root = document.documentElement;
const POLL_MS = 5000;
const SHIFT_MS = 60000;
const RENEW_MS = 300000;
const SILENCE_MS = 40000;
const STEPS = [[0, 0], [4, 2], [8, 4], [5, 8], [0, 6], [-5, 8], [-8, 4], [-4, 1], [-6, -4], [2, -6], [7, -3]];

let layout = main.dataset.layout;
let source = null;
let heard = Date.now();
let timer = 0;
let step = 0;
let isFetching = false;

const attribute = (name) => (element, text) => element.setAttribute(name, text);
const KINDS = {
  s: (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  },
  c: attribute("data-state"),
  w: attribute("stroke-width"),
  width: (element, text) => element.setAttribute("width", text || "0"),
  dash: (element, text) => element.setAttribute("stroke-dasharray", `${text || 0} 100`),
};

function write(slots) {
  for (const [kind, put] of Object.entries(KINDS))
    for (const element of main.querySelectorAll(`[data-${kind}]`)) {
      const text = slots[element.dataset[kind]];
      if (text !== undefined) put(element, text);
    }
}

function dim() {
  const page = main.querySelector(".wall-page");
  const isDim = page?.dataset.dim === "yes";
  const theme = isDim ? "dark" : chosen;
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  if (page) page.style.opacity = isDim ? "0.6" : "";
}

async function renew() {
  if (isFetching) return;
  isFetching = true;
  try {
    const answer = await fetch(main.dataset.part, { cache: "no-store" });
    if (answer.status === 401) location.reload();
    if (!answer.ok) return;
    main.innerHTML = await answer.text();
    tick();
    dim();
  } catch {
    // the next message, or the timer, tries again
  } finally {
    isFetching = false;
  }
}

function take(message) {
  heard = Date.now();
  if (message.layout === layout) {
    write(message.slots);
    return;
  }
  layout = message.layout;
  renew();
}

async function poll() {
  clearTimeout(timer);
  try {
    const answer = await fetch(main.dataset.snapshot, { cache: "no-store" });
    if (answer.ok) take(await answer.json());
  } catch {
    // said by the mark above
  }
  timer = setTimeout(poll, POLL_MS);
}

function connect() {
  source?.close();
  source = new EventSource(main.dataset.live);
  const hear = (event) => {
    clearTimeout(timer);
    take(JSON.parse(event.data));
  };
  source.addEventListener("full", hear);
  source.addEventListener("patch", hear);
  source.addEventListener("error", () => {
    poll();
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 20000);
  });
}

let chosen = "";
try {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") chosen = kept;
} catch {
  // private windows keep nothing
}
const time = new Intl.DateTimeFormat(root.lang, {
  hour: "2-digit",
  minute: "2-digit",
  hourCycle: "h23",
  timeZone: main.dataset.zone,
});

function tick() {
  const place = document.getElementById("wall-clock");
  const text = time.format(new Date());
  if (place && place.textContent !== text) place.textContent = text;
  const link = document.getElementById("wall-link");
  const isAway = Date.now() - heard > SILENCE_MS;
  if (link) {
    link.hidden = !isAway;
    link.textContent = isAway ? main.dataset.away : "";
  }
  if (isAway && !timer) poll();
}

setInterval(tick, 1000);
setInterval(renew, RENEW_MS); // night, and what only the portal knows
setInterval(() => {
  step = (step + 1) % STEPS.length;
  const [x, y] = STEPS[step];
  main.style.transform = `translate(${x}px, ${y}px)`;
}, SHIFT_MS);

// The screen stays on while this page is shown.
async function stayAwake() {
  try {
    if (!document.hidden) await navigator.wakeLock?.request("screen");
  } catch {
    // a browser that does not want to: its own settings decide
  }
}
document.addEventListener("visibilitychange", stayAwake);

let hiding = 0;
addEventListener("pointerdown", () => {
  document.body.classList.add("touched");
  clearTimeout(hiding);
  hiding = setTimeout(() => document.body.classList.remove("touched"), 4000);
});

stayAwake();
dim();
connect();
