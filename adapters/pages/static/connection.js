/** A WebSocket that comes back by itself. It knows nothing of the page around it. */

const FIRST_MS = 500;
const CAP_MS = 10_000;
const STABLE_MS = 10_000; // a connection that held so long starts the delays anew

/** Codes after which the same client would be refused again (RFC 6455, 7.4.1). */
const FINAL = new Set([1003, 1008]);

/**
 * @typedef {{name: "connecting"}
 *   | {name: "connected"}
 *   | {name: "reconnecting", seconds: number, code: number, reason: string}
 *   | {name: "refused", code: number, reason: string}} State
 */

export class Connection {
  #path = null;
  #socket = null;
  #attempt = 0;
  #openedAt = null;
  #timer = null;
  #onState;
  #onMessage;
  #onEnd;

  /**
   * @param {object} handlers
   * @param {(state: State) => void} handlers.onState at each change, and each second
   *   of waiting
   * @param {(data: string | ArrayBuffer) => void} handlers.onMessage
   * @param {(code: number, reason: string) => void} [handlers.onEnd] when a connection
   *   that had been made has ended
   */
  constructor({ onState, onMessage, onEnd = () => {} }) {
    this.#onState = onState;
    this.#onMessage = onMessage;
    this.#onEnd = onEnd;
    addEventListener("online", () => this.#timer !== null && this.retry());
    // A page that is kept for the back button must not look connected to the others.
    addEventListener("pagehide", () => this.#drop());
    addEventListener("pageshow", (event) => event.persisted && this.retry());
  }

  /** Connect to a path relative to the page, in place of where it is connected now. */
  open(path) {
    this.#path = path;
    this.#attempt = 0;
    this.retry();
  }

  /** Connect now, instead of waiting or staying refused. */
  retry() {
    if (this.#path === null) return;
    this.#drop();
    const socket = new WebSocket(address(this.#path));
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#onState({ name: "connecting" });
    socket.onopen = () => {
      this.#openedAt = performance.now();
      this.#onState({ name: "connected" });
    };
    socket.onmessage = (event) => this.#onMessage(event.data);
    socket.onclose = (event) => this.#ended(event.code, event.reason);
  }

  /** Send text or bytes; false, and nothing happens, while it is not connected. */
  send(data) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    return true;
  }

  #ended(code, reason) {
    this.#socket = null;
    if (this.#openedAt !== null) {
      if (performance.now() - this.#openedAt > STABLE_MS) this.#attempt = 0;
      this.#openedAt = null;
      this.#onEnd(code, reason);
    }
    if (FINAL.has(code)) {
      this.#onState({ name: "refused", code, reason });
    } else {
      this.#wait(code, reason);
    }
  }

  /** Full jitter: a thousand clients of one server do not come back in step. */
  #wait(code, reason) {
    const ceiling = Math.min(CAP_MS, FIRST_MS * 2 ** this.#attempt++);
    const due = performance.now() + Math.random() * ceiling;
    const tick = () => {
      const left = due - performance.now();
      if (left <= 0) return this.retry();
      const seconds = Math.ceil(left / 1000);
      this.#onState({ name: "reconnecting", seconds, code, reason });
      this.#timer = setTimeout(tick, Math.min(left, 1000));
    };
    tick();
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#openedAt = null;
    if (this.#socket === null) return;
    // What it still has to say is about a connection that nobody looks at any more.
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close(1000);
    this.#socket = null;
  }
}

/** Relative to the page: the same host, port and prefix, and wss under https. */
function address(path) {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
