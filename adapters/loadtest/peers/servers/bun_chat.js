// Bun's own publish and subscribe, as its guide has it; the server publishes, so that
// the one who speaks hears it as well, as everywhere else here.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  fetch(request, server) {
    if (server.upgrade(request)) return
    return new Response("a WebSocket is wanted here", { status: 426 })
  },
  websocket: {
    open(client) {
      client.subscribe("chat")
    },
    message(client, message) {
      server.publish("chat", message)
    },
  },
})
