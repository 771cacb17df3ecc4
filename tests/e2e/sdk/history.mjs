// A topic's past, from both ends, in pages.
import { ask, call, client, given, name, subscription, until } from "./stage.mjs";

const reader = client("reader");
const sub = subscription("reader", reader, given.topic);
sub.subscribe();
reader.connect();
await until(`reader ${given.topic}`, 2);
await ask("publish");
await until(`reader ${given.topic}`, 2 + given.messages);

const { offset, epoch } = await sub.history({ limit: 0 });
name(epoch, "epoch");
await call("nothing", sub.history({ limit: 0 }));
await call("all", sub.history({ limit: -1 }));
await call("forward", sub.history({ limit: 2 }));
await call("since", sub.history({ limit: 2, since: { offset: 2, epoch } }));
await call("reverse", sub.history({ limit: 2, reverse: true }));
await call("before", sub.history({ limit: 2, since: { offset: 3, epoch }, reverse: true }));
await call("end", sub.history({ limit: 9, since: { offset, epoch } }));
await call("other epoch", sub.history({ limit: 9, since: { offset: 1, epoch: "other" } }));
reader.disconnect();
