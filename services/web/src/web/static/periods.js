// The arrow keys lead to the period before and after, where nothing under the keyboard wants them.
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, summary, #bars, #map, [tabindex='0']")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a.arrow[rel="${rel}"]`);
  if (!link) return;
  event.preventDefault();
  link.click();
});
