// Deltas: every publication is whole, though few come as such.
import { ask, client, given, say, subscription, until, WebSocket } from "./stage.mjs";

let patches = 0;
let bytes = 0;
class Counting extends WebSocket {
  constructor(...args) {
    super(...args);
    this.on("message", (data) => {
      const text = data.toString();
      bytes += text.length;
      patches += text.split('"delta":true').length - 1;
    });
  }
}

const isPublication = ([event]) => event === "publication";
const reader = client("reader", { websocket: Counting });
subscription("reader", reader, given.topic, { delta: "fossil" }).subscribe();
const plain = client("plain");
subscription("plain", plain, given.topic).subscribe();
reader.connect();
plain.connect();
for (const who of ["reader", "plain"]) {
  await until(`${who} ${given.topic}`, 1, ([event]) => event === "subscribed");
}
let heard = 0;
for (let round = 0; round < given.rounds; round++) {
  heard += await ask("publish");
  await until(`reader ${given.topic}`, heard, isPublication);
  await until(`plain ${given.topic}`, heard, isPublication);
  if (round < given.rounds - 1) {
    await ask("drop");
    await until(`reader ${given.topic}`, round + 2, ([event]) => event === "subscribed");
  }
}
say("patches", patches);
say("bytes", bytes);
reader.disconnect();
plain.disconnect();
