/** The chat: everyone sees what everyone says. */

import { attach } from "./panel.js";

const id = String(Date.now()); // as the tutorial does; two tabs may share one
document.getElementById("ws-id").textContent = id;

attach((text) => {
  if (text.startsWith("You wrote: ")) return { kind: "own" };
  const [, author] = /^Client #(-?\d+) says: /.exec(text) ?? [];
  return author === undefined ? { kind: "note" } : { kind: "said", author };
}).open(`ws/${id}`);
