// A ping is answered; and missed pings are noticed.
import { client, say, until, WebSocket } from "./stage.mjs";

class Spy extends WebSocket {
  send(data, ...rest) {
    super.send(data, ...rest);
    if (data === "{}") say("wire", "pong");
  }
}

const lively = client("lively", { websocket: Spy, maxServerPingDelay: 3000 });
lively.connect();
await until("wire", 2);
lively.disconnect();
