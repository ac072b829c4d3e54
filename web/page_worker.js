// page_worker.js: workers that a worker needs but a page makes. Firefox 153 now and then never returns from
// `new Worker` in a worker: its two threads wait for one signal of the page's. A page's own `new Worker` doesn't wait.
//
// Worker → page, beside the messages that the two exchange anyway:
//   {make: url, port, direct}       a worker at that address, please; `port` stands for it
// Over the port, to the page:       {data} a message for the new worker, {end: true} terminate it
//               from the page:      {data} a message of the new worker, {error: text} it failed
// `direct` is for a helper: the page hands it that port, {port}, and messages to the helper don't pass the page, where
// the engine's memory would stay until the page collects its garbage.

/** What a worker gets instead of a Worker: the same methods, as far as they are needed here. */
export class PageWorker extends EventTarget {
  /** @param {string | URL} url @param {{direct?: boolean}} [options] `direct`: the worker takes {port} */
  constructor(url, { direct = false } = {}) {
    super();
    const { port1, port2 } = new MessageChannel();
    const line = direct ? new MessageChannel() : null;
    this._port = port1;
    this._direct = line?.port1;
    this.onmessage = null;
    this.onerror = null;
    this._port.onmessage = ({ data: { data, error } }) => {
      if (error === undefined) this._fire(new MessageEvent("message", { data }));
      else this._fire(Object.assign(new Event("error"), { message: error }));
    };
    const ports = line ? [port2, line.port2] : [port2];
    self.postMessage({ make: String(url), port: port2, direct: line?.port2 }, ports);
  }

  _fire(event) {
    this[`on${event.type}`]?.(event);
    this.dispatchEvent(event);
  }

  postMessage(data) {
    if (this._direct) this._direct.postMessage(data);
    else this._port.postMessage({ data });
  }

  terminate() {
    this._port.postMessage({ end: true });
    this._port.close();
    this._direct?.close();
  }
}

/**
 * The page's end: makes the worker that a message asked for, and those that it asks for in turn.
 * @param {{make: string, port: MessagePort, direct?: MessagePort}} wanted @param {(url: string) => Worker} makeWorker
 * @returns {{terminate: () => void}} to be called when the worker that asked ends
 */
export function makeFor({ make, port, direct }, makeWorker) {
  const worker = makeWorker(make);
  if (direct) worker.postMessage({ port: direct }, [direct]);
  const made = [];
  const terminate = () => { for (const one of [worker, ...made]) one.terminate(); };
  worker.onmessage = ({ data }) => {
    if (data?.make) made.push(makeFor(data, makeWorker));
    else port.postMessage({ data });
  };
  worker.onerror = (event) => port.postMessage({ error: event.message || `${make} failed` });
  port.onmessage = ({ data: { data, end } }) => (end ? terminate() : worker.postMessage(data));
  return { terminate };
}
