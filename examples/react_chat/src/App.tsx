import { useState } from "react";

import { Chat } from "./Chat";

export function App() {
  const [user, setUser] = useState<string | null>(null);
  if (user !== null) return <Chat user={user} channel="chat.lobby" />;
  return (
    <form
      className="login"
      action={(fields) => setUser(String(fields.get("name")))}
    >
      <label htmlFor="name">Your name</label>
      <input id="name" name="name" required maxLength={40} pattern="[A-Za-z0-9]+" />
      <button>Enter</button>
    </form>
  );
}
