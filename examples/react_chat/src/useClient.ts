import { Centrifuge, State } from "centrifuge";
import { useEffect, useState } from "react";

async function token(user: string): Promise<string> {
  const response = await fetch(`/token/${encodeURIComponent(user)}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

/** A connection for as long as the component is there, and its state. */
export function useClient(user: string): [Centrifuge, State] {
  const [client] = useState(() => {
    const url = new URL("/connection/websocket", location.href.replace(/^http/, "ws"));
    // Asked again whenever a token has run out.
    return new Centrifuge(url.href, { getToken: () => token(user) });
  });
  const [state, setState] = useState(client.state);

  useEffect(() => {
    client.on("state", ({ newState }) => setState(newState));
    client.connect();
    return () => {
      client.removeAllListeners("state");
      client.disconnect();
    };
  }, [client]);

  return [client, state];
}
