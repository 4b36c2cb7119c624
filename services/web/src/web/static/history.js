// On top of a page that works without: says what the bar under pointer or focus is, lets arrow keys
// go through bars, days of the map and periods, and offers the print dialogue.
import "./periods.js";

const says = document.getElementById("says");
const bars = [...document.querySelectorAll("a.bar")];
const idle = document.querySelector("a.bar.now") || bars[bars.length - 1];

function tell(bar) {
  if (!says || !bar) return;
  for (const each of bars) each.classList.toggle("told", each === bar);
  says.textContent = bar.getAttribute("aria-label");
  says.hidden = false;
}

for (const bar of bars) {
  bar.querySelector("title")?.remove(); // what it says stands beneath
  bar.addEventListener("pointerenter", () => tell(bar));
  bar.addEventListener("focus", () => tell(bar));
}
tell(idle);

// The first touch says what the bar is, the second follows it.
let touched = null;
document.getElementById("bars")?.addEventListener("click", (event) => {
  const bar = event.target.closest("a.bar");
  if (!bar || event.pointerType !== "touch") return;
  if (touched !== bar) event.preventDefault();
  touched = bar;
  tell(bar);
});

function step(list, from, by) {
  const next = list[list.indexOf(from) + by];
  if (!next) return false;
  next.focus();
  return true;
}

document.getElementById("bars")?.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && bars.includes(document.activeElement)) {
    event.stopPropagation();
    if (step(bars, document.activeElement, by)) event.preventDefault();
  }
});

const map = document.getElementById("map");
map?.addEventListener("keydown", (event) => {
  const cell = document.activeElement.closest("td, th");
  const [across, down] = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, -1],
    ArrowDown: [0, 1],
  }[event.key] || [0, 0];
  if (!cell || !(across || down)) return;
  event.stopPropagation();
  let [row, column] = [cell.parentElement.rowIndex + down, cell.cellIndex + across];
  while (map.rows[row]?.cells[column] && !map.rows[row].cells[column].querySelector("a")) {
    row += down;
    column += across;
  }
  const link = row > 0 && map.rows[row]?.cells[column]?.querySelector("a");
  if (link) {
    event.preventDefault();
    link.focus();
  }
});

const chip = document.querySelector(".chips [aria-current]");
if (chip) chip.parentElement.scrollLeft = chip.offsetLeft - 20;

const print = document.getElementById("print");
if (print) {
  print.hidden = false;
  print.addEventListener("click", () => window.print());
}

// Corrections: drag over the picture to choose a stretch.
const sticks = document.querySelector("#sticks .plot");
if (sticks) {
  const picked = document.getElementById("picked");
  const from = document.querySelector("input[name=from]");
  const to = document.querySelector("input[name=to]");
  const slots = 288;
  let anchor = null;
  const slot = (event) => {
    const box = sticks.getBoundingClientRect();
    return Math.max(0, Math.min(slots - 1, Math.floor(((event.clientX - box.left) / box.width) * slots)));
  };
  const clock = (index) =>
    `${String(Math.floor(index / 12)).padStart(2, "0")}:${String((index % 12) * 5).padStart(2, "0")}`;
  const choose = (event) => {
    const [low, high] = [anchor, slot(event)].sort((a, b) => a - b);
    picked.setAttribute("x", `${(100 * low) / slots}%`);
    picked.setAttribute("width", `${(100 * (high + 1 - low)) / slots}%`);
    from.value = clock(low);
    to.value = clock(high + 1);
  };
  if (!document.querySelector("[data-odd]")) {
    sticks.addEventListener("pointerdown", (event) => {
      anchor = slot(event);
      sticks.setPointerCapture(event.pointerId);
      choose(event);
    });
    sticks.addEventListener("pointermove", (event) => anchor !== null && choose(event));
    for (const end of ["pointerup", "pointercancel"]) {
      sticks.addEventListener(end, () => {
        anchor = null;
      });
    }
  }
  const amount = document.getElementById("kwh");
  const show = () => {
    amount.hidden = document.querySelector("input[name=deed]:checked")?.value !== "set";
  };
  document.querySelector("#stretch form").addEventListener("change", show);
  show();
}
