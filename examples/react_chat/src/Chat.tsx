import { type SubmitEvent, useEffect, useRef, useState } from "react";

import { useClient } from "./useClient";
import { useRoom } from "./useRoom";

export function Chat({ user, channel }: { user: string; channel: string }) {
  const [client, state] = useClient(user);
  const { messages, people, news, say } = useRoom(client, channel);
  const [problem, setProblem] = useState("");
  const end = useRef<HTMLLIElement>(null);
  const last = messages.at(-1)?.offset;

  useEffect(() => {
    end.current?.scrollIntoView({ block: "end" }); // not returned: it is no clean-up
  }, [last]);

  async function send(event: SubmitEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const text = String(new FormData(form).get("text")).trim();
    if (text === "") return;
    form.reset(); // before the wait: after it, the next message may be in there
    try {
      await say(text);
      setProblem("");
    } catch (error) {
      setProblem(`“${text}” was not sent: ${(error as Error).message}`);
    }
  }

  return (
    <main>
      <header>
        <h1>{channel}</h1>
        <p id="status" role="status" data-state={state}>
          {state} as {user}
        </p>
        <p id="news" role="status">
          {news}
        </p>
      </header>
      <ul id="messages" aria-label="Messages" aria-live="polite" tabIndex={0}>
        {messages.map((message) => (
          <li key={message.offset} className={message.user === user ? "own" : ""}>
            <b>{message.user}</b>: {message.text}
          </li>
        ))}
        <li ref={end} aria-hidden="true" />
      </ul>
      <aside>
        <h2>Here now</h2>
        <ul id="people">
          {people.map((each) => (
            <li key={each}>{each}</li>
          ))}
        </ul>
      </aside>
      <form onSubmit={send}>
        <label className="hidden" htmlFor="text">
          Message
        </label>
        <input id="text" name="text" maxLength={2000} autoComplete="off" placeholder="Write a message" />
        <button disabled={state !== "connected"}>Send</button>
        <p role="alert">{problem}</p>
      </form>
    </main>
  );
}
