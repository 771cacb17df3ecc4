// Tokens for a moment: asked for again and again, and nothing is interrupted.
import { ask, call, client, given, subscription, until, say } from "./stage.mjs";

const brief = client("brief", {
  token: given.token,
  getToken: async () => {
    const token = await ask("token");
    say("tokens", "renewed");
    return token;
  },
});
const sub = subscription("brief", brief, given.topic, {
  token: given.tokenForTopic,
  getToken: async () => {
    const token = await ask("token for topic");
    say("topic tokens", "renewed");
    return token;
  },
});
sub.subscribe();
brief.connect();
// The third comes after the first has expired and its grace is over.
await until("tokens", 3);
await until("topic tokens", 3);
await call("who", brief.rpc("who", {}));
brief.disconnect();

