// How long, and how long ago, in the language of the page: its forms are the browser's own.
const LANGUAGE = document.documentElement.lang || "en";
const STEPS = [
  [100, 1, "second"],
  [5400, 60, "minute"],
  [172800, 3600, "hour"],
  [Infinity, 86400, "day"],
];
const since = new Intl.RelativeTimeFormat(LANGUAGE, { style: "short", numeric: "always" });
const lengths = new Map(
  STEPS.map(([, , unit]) => [
    unit,
    new Intl.NumberFormat(LANGUAGE, {
      style: "unit",
      unit,
      unitDisplay: unit === "day" ? "long" : "short",
      maximumFractionDigits: 0,
    }),
  ]),
);

function step(seconds) {
  const whole = Math.max(0, seconds);
  const [, size, unit] = STEPS.find(([end]) => whole < end);
  return [Math.round(whole / size), unit];
}

const hard = (text) => text.replaceAll(" ", "\u00a0");

export function span(seconds) {
  const [count, unit] = step(seconds);
  return hard(lengths.get(unit).format(count));
}

export function ago(seconds) {
  const [count, unit] = step(seconds);
  return hard(since.format(-count, unit));
}
