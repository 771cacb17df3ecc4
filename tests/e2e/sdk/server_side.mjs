// Subscriptions that the server makes: by token, and for a client that is connected.
import { ask, call, client, given, name, say, until } from "./stage.mjs";

const reader = client("reader", { token: given.token });
reader.on("subscribed", ({ channel, ...event }) => {
  name(event.streamPosition?.epoch, `epoch of ${channel}`);
  say(channel, ["subscribed", event]);
});
reader.on("subscribing", ({ channel }) => say(channel, ["subscribing"]));
reader.on("unsubscribed", ({ channel }) => say(channel, ["unsubscribed"]));
reader.on("publication", ({ channel, ...event }) => say(channel, ["publication", event]));
reader.on("join", ({ channel, info }) => say(`${channel} sees`, ["join", info]));
reader.on("leave", ({ channel, info }) => say(`${channel} sees`, ["leave", info]));
reader.connect();
const first = given.first;
const second = given.second;
await until(first);
await ask("publish to first");
await call("publish", reader.publish(first, "mine"));
await until(first, 3);
await call("presence", reader.presence(first));
await ask("drop");
await until(first, 6);
await ask("subscribe");
await until(second);
await ask("publish to second");
await until(second, 2);
await ask("unsubscribe");
await until(second, 3);
reader.disconnect();
