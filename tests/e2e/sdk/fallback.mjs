// Neither WebSockets nor streams get through here; the SDK finds out what does.
import { call, client, given, http, say, subscription, until, url } from "./stage.mjs";

const endpoints = [
  { transport: "websocket", endpoint: url.replace("/connection", "/nowhere") },
  { transport: "http_stream", endpoint: `${http}/nowhere/http_stream` },
  { transport: "sse", endpoint: `${http}/connection/sse` },
];
const seeker = client("seeker", {}, undefined, endpoints);
seeker.on("connected", (event) => say("transports", event.transport));
const sub = subscription("seeker", seeker, given.topic);
sub.subscribe();
seeker.connect();
await until(`seeker ${given.topic}`, 2);
await call("publish", sub.publish({ through: "at last" }));
await until(`seeker ${given.topic}`, 3);
seeker.disconnect();
