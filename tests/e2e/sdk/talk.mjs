// Two clients in one topic: what each hears of the other.
import { ask, call, client, given, name, subscription, until } from "./stage.mjs";

const first = client("first");
const hears = subscription("first", first, given.topic);
hears.on("subscribed", (event) => name(event.streamPosition.epoch, "epoch"));
hears.subscribe();
first.connect();
await until(`first ${given.topic} sees`, 1); // itself

const second = client("second", { token: given.token });
const answers = subscription("second", second, given.topic);
answers.subscribe();
second.connect();
await until(`first ${given.topic} sees`, 2);
await until(`second ${given.topic} sees`, 1);

await call("publish", hears.publish({ hello: "wörld 👋", nested: [1, null, "\n"] }));
await until(`second ${given.topic}`, 3); // subscribing, subscribed, publication
await call("publish", answers.publish("a text"));
await until(`first ${given.topic}`, 4);
await until(`second ${given.topic}`, 4);
await ask("publish");
await until(`first ${given.topic}`, 5);
await until(`second ${given.topic}`, 5);
await call("presence", hears.presence());
await call("stats", hears.presenceStats());

answers.unsubscribe();
await until(`first ${given.topic} sees`, 3);
await call("stats", hears.presenceStats());
answers.subscribe();
await until(`first ${given.topic} sees`, 4);
await until(`second ${given.topic} sees`, 2);
second.disconnect();
await until(`first ${given.topic} sees`, 5);
await call("presence", hears.presence());
first.disconnect();
