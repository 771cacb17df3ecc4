// Calls to the application, and what is refused.
import { call, client, given, subscription, until } from "./stage.mjs";

const caller = client("caller");
caller.connect();
await until("caller", 2);
await call("rpc", caller.rpc("add", { a: [1, "ö"] }));
await call("rpc without data", caller.rpc("add", null));
await call("rpc fails", caller.rpc("fail", {}));
await call("rpc has a bug", caller.rpc("bug", {}));
await call("send", caller.send({ said: given.text }));
await call("publish elsewhere", caller.publish(given.topic, { far: 1 }));
await call("publish, denied", caller.publish("news.x", {}));
await call("publish, no topic", caller.publish("a..b", {}));
await call("history, not subscribed", caller.history("chat.elsewhere", { limit: 1 }));
await call("presence, not subscribed", caller.presence("chat.elsewhere"));

const plain = subscription("caller", caller, "news.plain");
plain.subscribe();
await until("caller news.plain", 2);
await call("no history", plain.history({ limit: 1 }));
await call("no presence", plain.presence());
const members = subscription("caller", caller, "members.x");
members.subscribe();
await until("caller members.x", 2);
await call("still served", caller.rpc("last", {}));
caller.disconnect();
