// On every page: forms that htmx sends carry the mark of this session.
document.addEventListener("htmx:configRequest", (event) => {
  const mark = document.querySelector('meta[name="csrf"]');
  if (mark) event.detail.headers["X-CSRF-Token"] = mark.content;
});
