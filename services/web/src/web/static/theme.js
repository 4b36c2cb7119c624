// Colours before the first paint: auto (the system's), light or dark, as this browser was told.
(() => {
  "use strict";
  const order = ["auto", "light", "dark"];
  const root = document.documentElement;
  let theme = "auto";
  try {
    theme = localStorage.getItem("theme") || "auto";
  } catch {
    // private windows keep nothing
  }
  const apply = () => {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", theme);
    const name = document.getElementById("theme-name");
    if (name) name.textContent = name.dataset[theme] || theme;
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    apply();
    if (!button) return; // the page for when the portal is away has none
    button.hidden = false;
    button.addEventListener("click", () => {
      theme = order[(order.indexOf(theme) + 1) % order.length];
      try {
        localStorage.setItem("theme", theme);
      } catch {
        // then only for this page
      }
      apply();
    });
  });
})();
