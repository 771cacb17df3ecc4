// The server goes down and comes back, with none of the past.
import { ask, client, given, name, subscription, until } from "./stage.mjs";

const stayer = client("stayer");
const sub = subscription("stayer", stayer, given.topic);
let lives = 0;
sub.on("subscribed", (event) => name(event.streamPosition.epoch, `epoch ${++lives}`));
sub.subscribe();
stayer.connect();
await until(`stayer ${given.topic}`, 2);
await ask("publish");
await until(`stayer ${given.topic}`, 3);
await ask("restart");
await until(`stayer ${given.topic}`, 5); // subscribing, subscribed
await ask("publish");
await until(`stayer ${given.topic}`, 6);
stayer.disconnect();
