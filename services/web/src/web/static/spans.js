// How long, and how long ago, as the portal itself writes it.
const DAYS = new Intl.NumberFormat(document.documentElement.lang || "en", {
  style: "unit",
  unit: "day",
  unitDisplay: "long",
  maximumFractionDigits: 0,
});
const AGO = document.documentElement.dataset.ago;
const STEPS = [
  [100, 1, "s"],
  [5400, 60, "min"],
  [172800, 3600, "h"],
];

export function span(seconds) {
  const whole = Math.max(0, seconds);
  const found = STEPS.find(([end]) => whole < end);
  const text = found ? `${Math.round(whole / found[1])} ${found[2]}` : DAYS.format(whole / 86400);
  return text.replaceAll(" ", "\u00a0");
}

export function ago(seconds) {
  return AGO.replace("{}", span(seconds)).replaceAll(" ", "\u00a0");
}
