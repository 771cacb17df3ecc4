// Who one is: tokens that are fresh, expired, about to expire, and wrong.
import { ask, call, client, given, subscription, until } from "./stage.mjs";

const fresh = (kind) => () => ask(kind);

const late = client("late", { token: given.expired, getToken: fresh("token") });
late.connect();
await until("late", 2);
await call("who is late", late.rpc("who", {}));

const topic = "members.x";
const bound = subscription("late", late, topic, {
  token: given.expiredForTopic,
  getToken: fresh("token for topic"),
});
bound.subscribe();
await until(`late ${topic}`, 2);
const refused = subscription("late", late, "members.y", { token: "not.a.token" });
refused.subscribe();
await until("late members.y", 2);
await call("late is still served", late.rpc("who", {}));
const foreign = subscription("late", late, "members.z", { token: given.tokenForTopic });
foreign.subscribe();
await until("late", 3);

for (const [as, token] of Object.entries(given.wrong)) {
  const made = client(as, { token });
  made.connect();
  await until(as, 2);
}
