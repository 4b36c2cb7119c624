// Small helps of Setup; every form works without.
const zone = document.querySelector('input[name="time_zone"]');
if (zone && !zone.value) {
  zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
}

const by = document.getElementById("by");
const way = document.getElementById("way");
if (by && way) {
  const show = () => {
    way.hidden = by.value === "";
    for (const part of way.querySelectorAll("[data-for]")) {
      part.hidden = part.dataset.for !== by.value;
    }
  };
  by.addEventListener("change", show);
  show();
}
