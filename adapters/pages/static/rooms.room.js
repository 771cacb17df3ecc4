/** A room of the official SDK: history, resume, presence, typing. It draws nothing. */

const HISTORY = 100; // as many as the server keeps of a room
const TOLD_MS = 1_500; // typing is told at most this often
const TYPING_MS = 4_000; // without news of it, it is over
const MOST_NAME = 40; // characters; a longer one is cut
const INTRODUCED = 20; // people; in a larger room the answers to a newcomer are too many
const MOST_NAMES = 1_000; // remembered; the oldest go first

/**
 * @typedef {{client: string | null, name: string | null, text: string | null,
 *   data: unknown, at: number | null}} Entry what somebody published; text is null if it
 *   is none of this page's messages, client if no client published it
 *
 * @typedef {object} Handlers
 * @property {(entries: Entry[]) => void} onHistory all there is, instead of what was shown
 * @property {(entry: Entry) => void} onEntry
 * @property {(entries: Entry[]) => void} onResumed what was missed, oldest first
 * @property {(isSameLife: boolean) => void} onLost history was loaded again instead;
 *   whether it is the server's same history
 * @property {(people: Map<string, string | null>) => void} onPeople {client id: its name}
 * @property {(typing: string[]) => void} onTyping client ids
 * @property {(problem: string) => void} onProblem
 */

export class Room {
  #messages;
  #signals; // a channel without history: what is told there need not be resumed
  #me; // {this tab's client ids}: each connection has another one
  #name;
  #on;
  #epoch = null;
  #isLoaded = false;
  #attempt = 0; // at history and presence; what an older one brings is stale
  #missed = null; // recovered publications, while the SDK hands them over
  #early = null; // publications that came before the history they belong behind
  #moves = null; // joins and leaves that came before the list they change
  #people = new Set();
  #names = new Map();
  #typing = new Map(); // {client id: the timer that ends it}
  #toldAt = -Infinity;

  /**
   * @param {Centrifuge} client
   * @param {string} room its name, without namespace
   * @param {string} name of whoever sits here
   * @param {Set<string>} me
   * @param {Handlers} handlers
   */
  constructor(client, room, name, me, handlers) {
    this.#name = name;
    this.#me = me;
    this.#on = handlers;
    this.#messages = client.newSubscription(`rooms:${room}`);
    this.#messages.on("subscribed", (context) => this.#subscribed(context));
    this.#messages.on("publication", (context) => this.#published(context));
    this.#messages.on("join", ({ info }) => this.#moved(info.client, true));
    this.#messages.on("leave", ({ info }) => this.#moved(info.client, false));
    this.#messages.on("unsubscribed", ({ code, reason }) => {
      if (code !== 0) handlers.onProblem(`${code}: ${reason}`);
    });
    this.#messages.on("error", ({ error }) => handlers.onProblem(error.message));
    this.#signals = client.newSubscription(`typing.${room}`);
    this.#signals.on("subscribed", () => this.#signal("hello"));
    this.#signals.on("publication", (context) => this.#signalled(context));
    this.#messages.subscribe();
    this.#signals.subscribe();
  }

  /** Stop for good; no handler is called any more. */
  leave(client) {
    this.#attempt += 1;
    for (const timer of this.#typing.values()) clearTimeout(timer);
    for (const each of [this.#messages, this.#signals]) {
      each.removeAllListeners();
      each.unsubscribe();
      client.removeSubscription(each);
    }
  }

  /** Publish a message; rejects with what the server has against it. */
  say(text) {
    this.#toldAt = -Infinity;
    return this.#messages.publish({ name: this.#name, text, at: Date.now() });
  }

  /** Tell the others, unless they have just been told. */
  tellTyping() {
    if (performance.now() - this.#toldAt < TOLD_MS) return;
    this.#toldAt = performance.now();
    this.#signal("typing");
  }

  async #subscribed({ wasRecovering, recovered, streamPosition }) {
    const attempt = (this.#attempt += 1);
    const epoch = streamPosition?.epoch ?? null;
    const isSameLife = this.#epoch === epoch;
    this.#epoch = epoch;
    this.#loadPeople(attempt);
    if (recovered && this.#isLoaded) {
      // The SDK hands over what was missed in this same turn, before any promise.
      this.#missed = [];
      await null;
      const missed = this.#missed;
      this.#missed = null;
      if (attempt === this.#attempt) this.#on.onResumed(missed);
    } else {
      await this.#loadHistory(attempt);
      const isLost = wasRecovering && !recovered;
      if (attempt === this.#attempt && isLost) this.#on.onLost(isSameLife);
    }
  }

  async #loadHistory(attempt) {
    this.#isLoaded = false;
    this.#early = [];
    let history;
    try {
      history = await this.#messages.history({ limit: HISTORY, reverse: true });
    } catch (error) {
      if (attempt !== this.#attempt) return; // the connection went; the next one loads it
      this.#on.onProblem(`No history: ${error.message}`);
      history = { publications: [], offset: 0 };
    }
    if (attempt !== this.#attempt) return;
    const later = this.#early.filter(({ offset }) => offset > history.offset);
    this.#early = null;
    this.#isLoaded = true;
    const all = [...history.publications.reverse(), ...later];
    this.#on.onHistory(all.map((each) => this.#read(each)));
  }

  #published(publication) {
    if (this.#early !== null) {
      this.#early.push(publication);
      return;
    }
    const entry = this.#read(publication);
    if (this.#missed !== null) this.#missed.push(entry);
    else this.#on.onEntry(entry);
    this.#endTyping(entry.client);
  }

  /** Anybody may publish anything: take of it what has the right type. */
  #read({ data, info }) {
    const client = info?.client ?? null;
    const { name, text, at } = data ?? {};
    if (client !== null) this.#learn(client, name);
    return {
      client,
      name: readName(name),
      text: typeof text === "string" ? text : null,
      data,
      at: Number.isFinite(at) ? at : null,
    };
  }

  async #loadPeople(attempt) {
    this.#moves = [];
    let clients = {};
    try {
      ({ clients } = await this.#messages.presence());
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.#on.onProblem(`No presence: ${error.message}`);
    }
    if (attempt !== this.#attempt) return;
    const moves = this.#moves;
    this.#moves = null;
    this.#people = new Set(Object.keys(clients));
    for (const [client, isHere] of moves) this.#move(client, isHere);
    for (const client of this.#typing.keys()) {
      if (!this.#people.has(client)) this.#endTyping(client);
    }
    this.#showPeople();
  }

  #moved(client, isHere) {
    if (this.#moves !== null) {
      this.#moves.push([client, isHere]);
      return;
    }
    this.#move(client, isHere);
    this.#showPeople();
  }

  #move(client, isHere) {
    if (isHere) {
      this.#people.add(client);
    } else {
      this.#people.delete(client);
      this.#names.delete(client);
      this.#endTyping(client);
    }
  }

  #showPeople() {
    const named = [...this.#people].map((id) => [id, this.#names.get(id) ?? null]);
    this.#on.onPeople(new Map(named));
  }

  #learn(client, given) {
    const name = readName(given);
    if (name === null || this.#names.get(client) === name) return;
    this.#names.set(client, name);
    if (this.#names.size > MOST_NAMES) {
      this.#names.delete(this.#names.keys().next().value);
    }
    if (this.#people.has(client)) this.#showPeople();
  }

  #signal(kind) {
    // Nobody needs it later: what cannot be told now is not told.
    this.#signals.publish({ kind, name: this.#name }).catch(() => {});
  }

  #signalled({ data, info }) {
    const client = info?.client;
    if (client === undefined) return;
    this.#learn(client, data?.name);
    if (this.#me.has(client)) return;
    if (data?.kind === "hello" && this.#people.size <= INTRODUCED) this.#signal("name");
    if (data?.kind !== "typing") return;
    clearTimeout(this.#typing.get(client));
    const timer = setTimeout(() => this.#endTyping(client), TYPING_MS);
    this.#typing.set(client, timer);
    this.#on.onTyping([...this.#typing.keys()]);
  }

  #endTyping(client) {
    clearTimeout(this.#typing.get(client));
    if (this.#typing.delete(client)) this.#on.onTyping([...this.#typing.keys()]);
  }
}

function readName(given) {
  if (typeof given !== "string" || given.trim() === "") return null;
  return [...given.trim()].slice(0, MOST_NAME).join("");
}
