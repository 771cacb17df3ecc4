/** What the three pages share: the state of the connection, the list, the form. */

import { Connection } from "./connection.js";

const MOST_MESSAGES = 500; // kept in the list; the oldest go first
const MOST_FILE_BYTES = 65_536; // the server's default limit of one message
const SHOWN_BYTES = 32; // of a binary message

const find = (id) => document.getElementById(id);

/**
 * Wire the page's elements to a connection.
 *
 * @param {(text: string) => {kind: string, author?: string}} classify how a text looks
 * @returns {Connection} not opened yet
 */
export function attach(classify = () => ({ kind: "reply" })) {
  const log = new Log(find("log"), find("messages"));
  const connection = new Connection({
    onState: showState,
    onMessage: (data) => {
      if (typeof data === "string") log.add(data, classify(data));
      else log.add(describe(new Uint8Array(data)), { kind: "binary" });
    },
    onEnd: (code, reason) => log.note(`Connection ended: ${explain(code, reason)}`),
  });
  find("retry").addEventListener("click", () => connection.retry());
  new Composer(find("composer"), (data) => connection.send(data));
  return connection;
}

const LABELS = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting",
  refused: "Refused",
};

function showState(state) {
  const status = find("status");
  if (status.dataset.state !== state.name) {
    status.dataset.state = state.name;
    find("state").textContent = LABELS[state.name];
    find("send").disabled = state.name !== "connected";
    find("retry").hidden = !["reconnecting", "refused"].includes(state.name);
  }
  // On its own, so that a screen reader does not read out every second.
  find("detail").textContent =
    state.name === "reconnecting"
      ? `in ${state.seconds} s (${explain(state.code, state.reason)})`
      : state.name === "refused"
        ? explain(state.code, state.reason)
        : "";
}

const MEANINGS = {
  1000: "closed",
  1001: "the server is going away",
  1005: "closed without a reason",
  1006: "no answer from the server",
  1011: "the server had to give up",
  1012: "the server restarts",
};

function explain(code, reason) {
  return `${code}: ${reason || MEANINGS[code] || "no reason given"}`;
}

function describe(bytes) {
  const shown = bytes.subarray(0, SHOWN_BYTES);
  const hex = Array.from(shown, (byte) => byte.toString(16).padStart(2, "0"));
  const more = bytes.length > SHOWN_BYTES ? " …" : "";
  return `${bytes.length} bytes: ${hex.join(" ")}${more}`;
}

/** The list of messages: bounded, and at its end as long as the reader is there. */
class Log {
  #box;
  #list;
  #isAtEnd = true;

  constructor(box, list) {
    this.#box = box;
    this.#list = list;
    box.addEventListener("scroll", () => {
      this.#isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    });
    new ResizeObserver(() => this.#follow()).observe(box);
  }

  note(text) {
    this.add(text, { kind: "note" });
  }

  add(text, { kind, author }) {
    const item = document.createElement("li");
    item.textContent = text; // never as HTML: it comes from other people
    item.className = kind;
    // Drawn by the style sheet: the item's own text stays what the server sent.
    item.dataset.time = new Date().toLocaleTimeString([], { timeStyle: "short" });
    if (author !== undefined) item.style.setProperty("--hue", hue(author));
    this.#list.append(item);
    while (this.#list.childElementCount > MOST_MESSAGES) {
      this.#list.firstElementChild.remove();
    }
    this.#follow();
  }

  #follow() {
    if (this.#isAtEnd) this.#box.scrollTop = this.#box.scrollHeight;
  }
}

/** The same colour for the same author on every screen (FNV-1a). */
function hue(author) {
  let hash = 0x811c9dc5;
  for (const character of author) {
    hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  }
  return (hash >>> 0) % 360;
}

/** The form: what is typed becomes text, JSON or bytes. */
class Composer {
  #form;
  #text = find("messageText");
  #problem = find("problem");
  #file = find("file"); // only where binary is offered
  #send;

  constructor(form, send) {
    this.#form = form;
    this.#send = send;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("change", () => this.#showFormat());
    this.#text.addEventListener("input", () => this.#complain(""));
    this.#showFormat();
  }

  get #format() {
    return new FormData(this.#form).get("format") ?? "text";
  }

  async #submit() {
    try {
      const data = await this.#read();
      if (data === null) return;
      if (!this.#send(data)) throw new Error("Not connected: nothing was sent.");
      this.#complain("");
      this.#text.value = "";
      if (this.#file) this.#file.value = "";
    } catch (error) {
      this.#complain(error.message);
    }
    this.#text.focus();
  }

  async #read() {
    const text = this.#text.value;
    if (this.#format === "binary") {
      const file = this.#file?.files[0];
      if (!file) return text === "" ? null : new TextEncoder().encode(text);
      if (file.size > MOST_FILE_BYTES) {
        throw new Error(`${file.name} has ${file.size} bytes; at most 65536 fit.`);
      }
      return await file.arrayBuffer();
    }
    if (text === "") return null;
    if (this.#format === "json") checkObject(text);
    return text;
  }

  #showFormat() {
    const placeholders = {
      text: "Write a message",
      json: '{"type": "greeting", "text": "hello"}',
      binary: "Text, sent as UTF-8 bytes",
    };
    this.#text.placeholder = placeholders[this.#format];
    this.#text.classList.toggle("code", this.#format !== "text");
    this.#text.spellcheck = this.#format === "text";
    if (this.#file) this.#file.parentElement.hidden = this.#format !== "binary";
    this.#complain("");
  }

  #complain(problem) {
    this.#problem.textContent = problem;
    this.#text.setAttribute("aria-invalid", String(problem !== ""));
  }
}

/** Throw unless it is a JSON object. What is sent is the text as it was typed. */
function checkObject(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`Not JSON, nothing was sent: ${error.message}`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Error("Not a JSON object, nothing was sent: write {…}");
  }
}
