/** Items: what the handshake carries besides the messages. */

import { attach } from "./panel.js";

const connection = attach();

document.getElementById("connect").addEventListener("submit", (event) => {
  event.preventDefault();
  const { itemId, token, q } = event.target.elements;
  const query = new URLSearchParams();
  if (token.value !== "") query.set("token", token.value);
  if (q.value !== "") query.set("q", q.value);
  connection.open(`items/${encodeURIComponent(itemId.value)}/ws?${query}`);
});
