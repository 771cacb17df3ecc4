// Sent away, cut off, cut off for too long: what was missed comes, or it is said.
import { ask, client, given, name, subscription, until } from "./stage.mjs";

const isSubscribed = ([event]) => event === "subscribed";
const isPublication = ([event]) => event === "publication";

const reader = client("reader");
const topics = [given.long, given.short];
for (const topic of topics) {
  const sub = subscription("reader", reader, topic);
  sub.on("subscribed", (event) => name(event.streamPosition.epoch, `epoch of ${topic}`));
  sub.subscribe();
}
reader.connect();
for (const topic of topics) await until(`reader ${topic}`, 1, isSubscribed);
await ask("publish one");
for (const topic of topics) await until(`reader ${topic}`, 1, isPublication);
await ask("drop");
for (const topic of topics) await until(`reader ${topic}`, 2, isSubscribed);
for (const topic of topics) await until(`reader ${topic}`, 2, isPublication);
await ask("reset");
await until(`reader ${given.long}`, 3, isSubscribed);
await until(`reader ${given.short}`, 3, isSubscribed);
await until(`reader ${given.long}`, 9, isPublication);
await ask("publish one");
await until(`reader ${given.long}`, 10, isPublication);
await until(`reader ${given.short}`, 3, isPublication);
reader.disconnect();
