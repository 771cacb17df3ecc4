import type {
  Centrifuge,
  ClientInfo,
  PublicationContext,
  SubscribedContext,
  Subscription,
} from "centrifuge";
import { useEffect, useRef, useState } from "react";

const MOST_MESSAGES = 100; // as many as the server keeps

export interface Message {
  offset: number;
  user: string;
  text: string;
}

export interface Room {
  messages: Message[]; // oldest first
  people: string[]; // users, each once
  news: string; // of the last time that the connection came back
  say: (text: string) => Promise<unknown>;
}

/** A channel's messages and people. It stays right when the connection comes and goes. */
export function useRoom(client: Centrifuge, channel: string): Room {
  const [messages, setMessages] = useState<Message[]>([]);
  const [people, setPeople] = useState(new Map<string, string>());
  const [news, setNews] = useState("");
  const current = useRef<Subscription | null>(null);

  useEffect(() => {
    const subscription = client.newSubscription(channel);
    let attempt = 0; // at history and presence: what an older one brings is stale
    let isLoaded = false;
    let missed: number | null = null; // counted while the SDK hands them over
    let moves: [ClientInfo, boolean][] | null = null; // before the list that they change

    // By offset: what is both in the history and published now is there once.
    const add = (more: PublicationContext[]) =>
      setMessages((known) => merged(known, more.flatMap(read)));

    const move = (info: ClientInfo, isHere: boolean) => {
      if (moves !== null) moves.push([info, isHere]);
      else setPeople((known) => moved(known, [[info, isHere]]));
    };

    async function loadHistory(mine: number) {
      isLoaded = false;
      setMessages([]);
      const past = await subscription.history({ limit: MOST_MESSAGES, reverse: true });
      if (mine !== attempt) return;
      isLoaded = true;
      add(past.publications);
    }

    async function loadPeople(mine: number) {
      moves = [];
      const { clients } = await subscription.presence();
      if (mine !== attempt || moves === null) return;
      const present = Object.values(clients).map((info): [ClientInfo, boolean] => [info, true]);
      const all = [...present, ...moves];
      moves = null;
      setPeople(moved(new Map(), all));
    }

    async function subscribed({ wasRecovering, recovered }: SubscribedContext) {
      const mine = ++attempt;
      // They fail when the connection goes; the next time, they are asked again.
      loadPeople(mine).catch(() => {});
      if (recovered && isLoaded) {
        missed = 0;
        await null; // the SDK hands over what was missed in this same turn
        setNews(`Resumed: ${missed} missed`);
        missed = null;
      } else {
        if (wasRecovering && !recovered) setNews("Not resumed: history was reloaded");
        loadHistory(mine).catch(() => {});
      }
    }

    subscription.on("subscribed", subscribed);
    subscription.on("publication", (publication) => {
      if (missed !== null) missed += 1;
      add([publication]);
    });
    subscription.on("join", ({ info }) => move(info, true));
    subscription.on("leave", ({ info }) => move(info, false));
    subscription.subscribe();
    current.current = subscription;
    return () => {
      attempt += 1;
      current.current = null;
      subscription.removeAllListeners();
      subscription.unsubscribe();
      client.removeSubscription(subscription);
      setMessages([]);
      setPeople(new Map());
      setNews("");
    };
  }, [client, channel]);

  return {
    messages,
    people: [...new Set(people.values())].sort(),
    news,
    say: async (text) => current.current?.publish({ text }),
  };
}

function read({ data, info, offset }: PublicationContext): Message[] {
  // The server says who it was. What they wrote may be anything: take messages only.
  if (typeof data?.text !== "string") return [];
  return [{ offset: offset ?? 0, user: info?.user ?? "server", text: data.text }];
}

function merged(known: Message[], more: Message[]): Message[] {
  const all = new Map([...known, ...more].map((message) => [message.offset, message]));
  return [...all.values()].sort((a, b) => a.offset - b.offset).slice(-MOST_MESSAGES);
}

function moved(known: Map<string, string>, moves: [ClientInfo, boolean][]) {
  const people = new Map(known);
  for (const [{ client, user }, isHere] of moves) {
    if (isHere) people.set(client, user);
    else people.delete(client);
  }
  return people;
}
