// coi-serviceworker.js: cross-origin isolation, which browsers ask for before they allow threads, where a
// server's headers can't be changed. A page includes it as a plain script, before all others:
//   <script src="./coi-serviceworker.js"></script>
// On a page that isn't isolated it registers itself as the service worker of its folder and reloads the page
// once; from then on every answer of the page's own server passes through it and gets the headers. A page that
// is isolated by its server is left alone. Where service workers can't be had ruvq runs on one thread.
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "cross-origin",
};
const RELOADED = "ruvq-isolation-reloaded"; // in sessionStorage: so that a reload in vain is not repeated

// ---- in the service worker ----

/** The same answer with the headers. One that scripts may not see is passed on as it is. */
function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

function serve() {
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => {
    const { request } = event;
    if (new URL(request.url).origin !== self.location.origin) return;
    if (request.cache === "only-if-cached" && request.mode !== "same-origin") return;
    event.respondWith(fetch(request).then(isolated));
  });
}

// ---- in the page ----

async function register(script) {
  if (window.crossOriginIsolated) {
    sessionStorage.removeItem(RELOADED);
    return;
  }
  const embedded = window.top !== window; // then the outer page decides
  if (!window.isSecureContext || !navigator.serviceWorker || embedded) return;
  if (sessionStorage.getItem(RELOADED)) {
    console.warn("ruvq: the page is not cross-origin isolated even with its service worker; one thread is used");
    return;
  }
  await navigator.serviceWorker.register(script);
  await navigator.serviceWorker.ready;
  sessionStorage.setItem(RELOADED, "1");
  window.location.reload();
}

if (typeof window === "undefined") serve();
else register(document.currentScript.src).catch((error) => console.warn(`ruvq: no isolation: ${error.message}`));
