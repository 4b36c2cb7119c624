// On every page: forms that htmx sends carry the mark of this session.
document.addEventListener("htmx:configRequest", (event) => {
  const mark = document.querySelector('meta[name="csrf"]');
  if (mark) event.detail.headers["X-CSRF-Token"] = mark.content;
});

// The last values stay on this device for when the portal is away. Browsers allow it over TLS, and
// on the portal's own machine.
if ("serviceWorker" in navigator)
  addEventListener("load", () => {
    navigator.serviceWorker.register("/sw.js").catch(() => {});
  });
