// What the scenarios share. Each event is one line of JSON on stdout: [stream, event].
// What is asked of the test is one as well; its answer is a line on stdin.
import { createRequire } from "node:module";
import readline from "node:readline";

const require = createRequire(`${process.env.SDK}/package.json`);
const { Centrifuge } = require("centrifuge");
export const { Centrifuge: Protobuf } = require("centrifuge/build/protobuf");
const { EventSource } = require("eventsource");
export const WebSocket = require("ws");

// Bytes are said as the text that they are, or else as numbers.
const decoder = new TextDecoder("utf-8", { fatal: true });
Buffer.prototype.toJSON = Uint8Array.prototype.toJSON = function () {
  try {
    return decoder.decode(this);
  } catch {
    return [...this];
  }
};

export const { url, ...given } = JSON.parse(process.env.GIVEN);

const told = {};
const names = {}; // {what differs from run to run: its name}
let conditions = [];

export function say(stream, event) {
  (told[stream] ??= []).push(event);
  console.log(JSON.stringify([stream, event]));
  conditions = conditions.filter(([isMet, resolve]) => !(isMet(told) && (resolve(), true)));
}

// Wait until so many events have been said in a stream, or a condition holds.
export function until(stream, count = 1, is = () => true) {
  const isMet = () => (told[stream] ?? []).filter(is).length >= count;
  return new Promise((resolve) => (isMet() ? resolve() : conditions.push([isMet, resolve])));
}

export function name(value, as) {
  names[value] = as;
}

const answers = [];
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  answers.shift()(JSON.parse(line));
  if (!answers.length) process.stdin.unref();
});
process.stdin.unref(); // A scenario ends when no client wants to do anything any more.

export function ask(what) {
  console.log(JSON.stringify(["ask", what]));
  process.stdin.ref();
  return new Promise((resolve) => answers.push(resolve));
}

// Where a client connects: by WebSocket, unless another transport is given.
export const http = url.replace(/^ws/, "http").replace("/connection/websocket", "");
const endpoint = given.transport
  ? [{ transport: given.transport, endpoint: `${http}/connection/${given.transport}` }]
  : url;

export function client(as, options = {}, Kind = Centrifuge, endpoints = endpoint) {
  const made = new Kind(endpoints, {
    websocket: WebSocket,
    eventsource: EventSource,
    emulationEndpoint: `${http}/emulation`,
    minReconnectDelay: 20,
    maxReconnectDelay: 60,
    ...options,
  });
  made.on("connecting", (event) => say(as, ["connecting", event.code, event.reason]));
  made.on("connected", (event) => {
    name(event.client, as);
    say(as, ["connected"]);
  });
  made.on("disconnected", (event) => say(as, ["disconnected", event.code, event.reason]));
  made.on("error", (event) => say(`${as} errors`, event));
  return made;
}

export function subscription(as, centrifuge, channel, options = {}) {
  const made = centrifuge.newSubscription(channel, {
    minResubscribeDelay: 20,
    maxResubscribeDelay: 60,
    ...options,
  });
  const stream = `${as} ${channel}`;
  made.on("subscribing", (event) => say(stream, ["subscribing", event.code, event.reason]));
  made.on("subscribed", ({ channel, ...event }) => say(stream, ["subscribed", event]));
  made.on("unsubscribed", (event) => say(stream, ["unsubscribed", event.code, event.reason]));
  made.on("publication", ({ channel, ...event }) => say(stream, ["publication", event]));
  made.on("join", (event) => say(`${stream} sees`, ["join", event.info]));
  made.on("leave", (event) => say(`${stream} sees`, ["leave", event.info]));
  made.on("error", (event) => say(`${stream} errors`, event));
  return made;
}

// Say what a call returns, or how it fails.
export async function call(what, promise) {
  try {
    say("calls", [what, await promise]);
  } catch (error) {
    say("calls", [what, { error }]);
  }
}

process.on("exit", () => console.log(JSON.stringify(["names", names])));
