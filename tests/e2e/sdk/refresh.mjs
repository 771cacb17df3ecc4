// Tokens for a moment: asked for again and again, and nothing is interrupted. The first
// one, too, which could be over before this program has begun.
import { ask, call, client, given, subscription, until, say } from "./stage.mjs";

const brief = client("brief", {
  getToken: async () => {
    const token = await ask("token");
    say("tokens", "renewed");
    return token;
  },
});
const sub = subscription("brief", brief, given.topic, {
  getToken: async () => {
    const token = await ask("token for topic");
    say("topic tokens", "renewed");
    return token;
  },
});
sub.subscribe();
brief.connect();
// The fourth comes after the first has expired and its grace is over.
await until("tokens", 4);
await until("topic tokens", 4);
await call("who", brief.rpc("who", {}));
brief.disconnect();

