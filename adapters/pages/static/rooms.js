/** The rooms: a chat on the official SDK, which resumes where it was. */

import { Room } from "./rooms.room.js";
import { readHash } from "./rooms.token.js";

const MOST_MESSAGES = 500; // kept in the list; the oldest go first
const DROP_S = 5;
const BAD_REQUEST = 3501; // what who has no token is told
const SHOWN_TYPING = 3; // names; more of them are several people

const find = (id) => document.getElementById(id);
const shortened = (client) => client.slice(0, 8);

const me = new Set(); // {this tab's client ids}: each connection has another one
let people = new Map(); // {client id: its name, or null}
let room = null;
let isAtEnd = true;
let wasConnected = false;
let dropped = null; // the timer of a connection that was dropped on purpose

function run(client) {
  client.on("connecting", ({ reason }) => {
    if (wasConnected) show("reconnecting", `(${reason})`);
    else show("connecting");
  });
  client.on("connected", (context) => {
    wasConnected = true;
    me.add(context.client);
    show("connected", `as client ${shortened(context.client)}`);
  });
  client.on("error", ({ error }) => {
    if (client.state === "connecting") show("reconnecting", `(${error.message})`);
  });
  client.on("disconnected", ({ code, reason }) => {
    if (code !== 0) show("refused", `${code}: ${reason}${advice(code)}`); // 0: it was this page
  });

  find("name").value = sessionStorage.getItem("name") ?? guest();
  addEventListener("hashchange", () => {
    const token = takeToken();
    if (token !== "") client.setToken(token);
    enter(client);
    if (token !== "") connect(client);
  });
  find("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("name", find("name").value);
    // Part of the address, so that one can send a room to somebody.
    history.replaceState(null, "", `#${find("room").value}`);
    enter(client);
    find("messageText").focus();
  });
  find("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    say();
  });
  find("messageText").addEventListener("input", () => {
    complain("");
    if (find("messageText").value !== "") room.tellTyping();
  });
  find("drop").addEventListener("click", () => drop(client));
  find("retry").addEventListener("click", () => connect(client));

  follow();
  enter(client);
  client.connect();
  credit();
}

function enter(client) {
  const given = readHash(location.hash).room;
  find("room").value = /^[a-z0-9-]{1,32}$/.test(given) ? given : "lobby";
  room?.leave(client);
  clear();
  room = new Room(client, find("room").value, find("name").value, me, {
    onHistory(entries) {
      clear();
      entries.forEach(add);
    },
    onEntry: add,
    onResumed(missed) {
      const messages = missed.length === 1 ? "message" : "messages";
      note(`Resumed: ${missed.length} missed ${messages}`, "good");
      missed.forEach(add);
    },
    onLost(isSameLife) {
      const why = isSameLife ? "history was too old" : "the server began a new history";
      note(`Not resumed: ${why}, reloaded`, "bad");
    },
    onPeople: showPeople,
    onTyping: showTyping,
    onProblem: (problem) => note(`Problem: ${problem}`, "bad"),
  });
}

async function say() {
  const text = find("messageText").value;
  if (text.trim() === "" || find("send").disabled) return;
  find("messageText").value = "";
  try {
    await room.say(text);
  } catch (error) {
    complain(`It was not sent: ${error.message}`);
    if (find("messageText").value === "") find("messageText").value = text;
  }
}

/* The connection */

const LABELS = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting",
  refused: "Refused",
};

function show(state, detail = "") {
  find("status").dataset.state = state;
  // Else a screen reader would read it out each second.
  if (find("state").textContent !== LABELS[state]) find("state").textContent = LABELS[state];
  find("detail").textContent = detail;
  const isConnected = state === "connected";
  const hadFocus = [find("drop"), find("retry")].includes(document.activeElement);
  find("send").disabled = !isConnected;
  find("drop").disabled = !isConnected;
  find("drop").hidden = !isConnected && state !== "connecting";
  find("retry").hidden = !find("drop").hidden;
  if (hadFocus) find(isConnected ? "drop" : "retry").focus();
}

/** Go away, as a network does, and come back: what was missed shows that it resumed. */
function drop(client) {
  client.disconnect();
  const due = performance.now() + DROP_S * 1000;
  const tick = () => {
    const left = due - performance.now();
    if (left <= 0) return connect(client);
    show("reconnecting", `in ${Math.ceil(left / 1000)} s (dropped by you)`);
    dropped = setTimeout(tick, Math.min(left, 1000));
  };
  tick();
}

/** Connect now, instead of waiting. */
function connect(client) {
  clearTimeout(dropped);
  client.disconnect(); // ends the SDK's own waiting
  client.connect();
}

/** Return the token that the address brings, "" for none, and take it out of there. */
function takeToken() {
  const { room, token } = readHash(location.hash);
  if (token !== "") {
    sessionStorage.setItem("token", token); // a reload is still the same person
    // The address is what one sends to others.
    history.replaceState(null, "", `#${room}`);
  }
  return token;
}

/** Return what a refused newcomer may try: the server's words do not tell. */
function advice(code) {
  const hasToken = sessionStorage.getItem("token") !== null;
  return code === BAD_REQUEST && !hasToken ? "; does it want a token? Add #token=…" : "";
}

/* The messages */

function add({ client, name, text, data, at }) {
  const isOwn = client !== null && me.has(client);
  const item = document.createElement("li");
  item.className = isOwn ? "own" : "said";
  const author = document.createElement("b");
  author.textContent = isOwn ? "You" : (name ?? (client === null ? "server" : unnamed(client)));
  author.className = isOwn ? "hidden" : "author";
  const colon = document.createElement("span"); // for those who hear it
  colon.className = "hidden";
  colon.textContent = ": ";
  const body = document.createElement("span");
  body.textContent = text ?? JSON.stringify(data); // never as HTML
  if (text === null) body.className = "code";
  item.append(author, colon, body);
  if (!isOwn) item.style.setProperty("--hue", hue(author.textContent));
  if (at !== null) {
    item.dataset.time = new Date(at).toLocaleTimeString([], { timeStyle: "short" });
  }
  append(item);
}

function note(text, mark) {
  const item = document.createElement("li");
  item.className = `note ${mark}`;
  item.textContent = text;
  append(item);
}

function append(item) {
  find("messages").append(item);
  while (find("messages").childElementCount > MOST_MESSAGES) {
    find("messages").firstElementChild.remove();
  }
  toEnd();
}

function clear() {
  find("messages").replaceChildren();
  isAtEnd = true;
  complain("");
  showTyping([]);
}

/** Stay at the end of the list as long as the reader is there. */
function follow() {
  const log = find("log");
  log.addEventListener("scroll", () => {
    isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  });
  new ResizeObserver(toEnd).observe(log);
}

function toEnd() {
  if (isAtEnd) find("log").scrollTop = find("log").scrollHeight;
}

function complain(problem) {
  find("problem").textContent = problem;
  find("messageText").setAttribute("aria-invalid", String(problem !== ""));
}

/* The people */

function showPeople(present) {
  people = present;
  find("count").textContent = String(people.size);
  const items = [...people].map(([client, name]) => {
    const item = document.createElement("li");
    const who = document.createElement("b");
    who.textContent = name ?? unnamed(client);
    item.append(who);
    if (me.has(client)) item.append(" (you)");
    item.title = `client ${client}`;
    item.style.setProperty("--hue", hue(who.textContent));
    return item;
  });
  find("people").replaceChildren(...items);
}

function showTyping(clients) {
  const names = clients.map((client) => people.get(client) ?? unnamed(client));
  const who = names.length > SHOWN_TYPING ? "Several people" : names.join(", ");
  const verb = names.length > 1 ? "are" : "is";
  find("typing").textContent = names.length === 0 ? "" : `${who} ${verb} typing…`;
}

function unnamed(client) {
  return `client ${shortened(client)}`;
}

function guest() {
  return `Guest ${100 + Math.floor(Math.random() * 900)}`;
}

/** The same colour for the same name on every screen. */
function hue(name) {
  return [...name].reduce((sum, each) => (sum * 31 + each.codePointAt(0)) % 360, 7);
}

/* The SDK */

async function credit() {
  const { name, version, license } = await (await fetch("sdk/package.json")).json();
  const link = document.createElement("a");
  link.href = "sdk/LICENSE.txt";
  link.textContent = `licence: ${license}`;
  find("sdk").append(`SDK: ${name} ${version}, `, link);
}

/** Relative to the page: the same host, port and prefix, and wss under https. */
function address(path) {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}

if (globalThis.Centrifuge === undefined) {
  find("missing").hidden = false;
  for (const field of find("enter").elements) field.disabled = true;
} else {
  takeToken();
  const token = sessionStorage.getItem("token") ?? "";
  run(new globalThis.Centrifuge(address("connection/websocket"), { token }));
}
