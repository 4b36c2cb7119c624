// What is being pressed must not be exchanged under the finger: the press would be lost.
const CLICK_MS = 100; // from a finger's lifting to its click

const waiting = new Set();
let held = null;
let presses = 0;

function hold(event) {
  presses += 1;
  held = event.target;
}

function release() {
  const mine = presses;
  setTimeout(() => {
    if (mine !== presses) return;
    held = null;
    const calls = [...waiting];
    waiting.clear();
    for (const call of calls) call();
  }, CLICK_MS);
}

addEventListener("pointerdown", hold, true);
addEventListener("keydown", hold, true);
for (const kind of ["pointerup", "pointercancel", "keyup"]) addEventListener(kind, release, true);
addEventListener("blur", release);

// Whether it is being pressed; if so, `then` is called once it is not.
export function isPressed(element, then) {
  if (!held || !element.contains(held)) return false;
  waiting.add(then);
  return true;
}
