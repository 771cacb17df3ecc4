// The network cannot keep up with the topic for a while.
import { ask, client, given, subscription, until } from "./stage.mjs";

const reader = client("reader");
subscription("reader", reader, given.topic).subscribe();
reader.connect();
await until(`reader ${given.topic}`, 2);
await ask("flood");
await until("reader", 4); // connecting, connected
await until(`reader ${given.topic}`, 2, ([event]) => event === "subscribed");
await ask("publish last");
await until(`reader ${given.topic}`, 1, ([, event]) => event.data === "last");
reader.disconnect();
