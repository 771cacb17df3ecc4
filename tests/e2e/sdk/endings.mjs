// The server ends it. The process ends by itself if the client stays away.
import { ask, client, given, subscription, until } from "./stage.mjs";

const leaver = client("leaver");
subscription("leaver", leaver, given.topic).subscribe();
leaver.connect();
await until(`leaver ${given.topic}`, 2);
await ask("drop");
await until("leaver", 3);
