// A client that speaks Protobuf and one that speaks JSON, in one topic.
import { Protobuf, ask, call, client, given, name, subscription, until } from "./stage.mjs";

const bytes = (value) => new TextEncoder().encode(JSON.stringify(value));
const isSubscribed = ([event]) => event === "subscribed";
const isPublication = ([event]) => event === "publication";

const binary = client("binary", { token: given.token }, Protobuf);
const sub = subscription("binary", binary, given.topic);
sub.on("subscribed", (event) => name(event.streamPosition.epoch, "epoch"));
sub.subscribe();
binary.connect();
await until(`binary ${given.topic} sees`, 1); // itself

const plain = client("plain");
const other = subscription("plain", plain, given.topic);
other.subscribe();
plain.connect();
await until(`binary ${given.topic} sees`, 2);
const heard = async (count) => {
  await until(`binary ${given.topic}`, count, isPublication);
  await until(`plain ${given.topic}`, count, isPublication);
};

await call("publish", sub.publish(bytes({ hello: "wörld 👋" })));
await heard(1);
await call("publish bytes", sub.publish(new Uint8Array([255, 0, 128])));
await heard(2);
await call("publish JSON", other.publish({ from: ["plain", null] }));
await heard(3);
await ask("publish");
await heard(4);

await call("presence", sub.presence());
await call("stats", sub.presenceStats());
await call("all", sub.history({ limit: -1 }));
const { offset, epoch } = await sub.history({ limit: 0 });
await call("before", sub.history({ limit: 2, since: { offset, epoch }, reverse: true }));
await call("other epoch", sub.history({ limit: 9, since: { offset: 1, epoch: "other" } }));

await call("rpc", binary.rpc("add", bytes({ a: [1, "ö"] })));
await call("rpc fails", binary.rpc("fail", bytes({})));
await call("send", binary.send(bytes({ said: given.text })));
await call("denied", binary.publish("news.x", bytes({})));

other.unsubscribe();
await until(`binary ${given.topic} sees`, 3);
other.subscribe();
await until(`binary ${given.topic} sees`, 4);
await until(`plain ${given.topic}`, 2, isSubscribed);

await ask("drop");
await until(`binary ${given.topic}`, 2, isSubscribed);
await until(`plain ${given.topic}`, 3, isSubscribed);
await heard(5);
await ask("publish");
await heard(6);

plain.disconnect();
binary.disconnect();
