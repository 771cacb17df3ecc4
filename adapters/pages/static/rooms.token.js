/** The token that an address brings: #lobby&token=… */

/**
 * Return what an address says behind its #, which browsers send to no server.
 *
 * @param {string} hash as of `location.hash`
 * @returns {{room: string, token: string}} each may be empty
 */
export function readHash(hash) {
  const said = { room: "", token: "" };
  for (const part of hash.replace(/^#/, "").split("&")) {
    if (part.startsWith("token=")) said.token = part.slice("token=".length);
    else if (said.room === "") said.room = part;
  }
  return said;
}
