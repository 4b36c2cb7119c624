// The service worker. SHELL stands before this text: the files of the shell, the addresses of *Now*
// that are kept, the page for everything else. Live streams and whatever changes something pass by.
const FILES = `shell-${SHELL.mark}`;
const LAST = "last";
const PATIENCE_MS = 8000;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(FILES)
      .then((cache) => cache.addAll([...SHELL.files, SHELL.offline]))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) =>
        Promise.all(
          names.filter((name) => name !== FILES && name !== LAST).map((name) => caches.delete(name)),
        ),
      )
      .then(() => self.clients.claim()),
  );
});

function kept(response) {
  // Told apart by this header from what the portal says itself.
  const headers = new Headers(response.headers);
  headers.set("X-Offline", "1");
  return new Response(response.body, { status: 200, headers });
}

async function lastOf(request, address) {
  const cache = await caches.open(LAST);
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.ok && !response.redirected) await cache.put(address, response.clone());
    else if (response.redirected || [401, 403].includes(response.status)) await caches.delete(LAST);
    return response;
  } catch (trouble) {
    const found = await cache.match(address);
    if (found) return kept(found);
    throw trouble;
  }
}

async function page(request, address) {
  try {
    return SHELL.kept.includes(address) ? await lastOf(request, address) : await fetch(request);
  } catch {
    return caches.match(SHELL.offline);
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  const address = url.pathname + url.search;
  if (request.mode === "navigate") event.respondWith(page(request, address));
  else if (SHELL.kept.includes(address)) event.respondWith(lastOf(request, address));
  else if (SHELL.files.includes(address))
    event.respondWith(caches.match(address).then((found) => found || fetch(request)));
});
