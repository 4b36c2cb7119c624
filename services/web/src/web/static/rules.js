// A replay: waits until it is done, then a line under the finger tells when that was.
const running = document.getElementById("running");

async function wait() {
  try {
    const answer = await fetch(running.dataset.progress, { cache: "no-store" });
    if (!answer.ok) return location.reload();
    const { state, done } = await answer.json();
    if (state !== "running") return location.reload();
    running.querySelector("progress").value = Math.round(100 * done);
  } catch {
    // the portal is away for a moment; the next question tells
  }
  setTimeout(wait, 1000);
}

if (running) setTimeout(wait, 700);

const figure = document.getElementById("replay");

function follow() {
  const start = Number(figure.dataset.start);
  const end = Number(figure.dataset.end);
  const form = new Intl.DateTimeFormat(document.documentElement.lang, {
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
    timeZone: figure.dataset.zone,
  });
  const line = document.createElement("div");
  const text = document.createElement("span");
  line.className = "under";
  line.hidden = true;
  line.append(text);
  figure.append(line);
  figure.addEventListener("pointermove", (event) => {
    const box = figure.getBoundingClientRect();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    line.hidden = false;
    line.style.left = `${share * 100}%`;
    line.dataset.side = share > 0.6 ? "left" : "right";
    text.textContent = form.format(new Date(start + share * (end - start)));
  });
  figure.addEventListener("pointerleave", () => {
    line.hidden = true;
  });
}

if (figure) follow();
