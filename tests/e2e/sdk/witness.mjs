// Somebody else is hostile; this one is served as before.
import { ask, call, client, given, subscription, until } from "./stage.mjs";

const witness = client("witness");
const sub = subscription("witness", witness, given.topic);
sub.subscribe();
witness.connect();
await until(`witness ${given.topic}`, 2);
await ask("misbehave");
await call("publish", sub.publish({ still: "here" }));
await until(`witness ${given.topic}`, 3);
witness.disconnect();
