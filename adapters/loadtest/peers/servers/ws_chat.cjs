// The broadcast of ws' README: one send for each client that is open.
const { WebSocket, WebSocketServer } = require("ws")

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]) })

server.on("connection", (client) => {
  client.on("error", console.error)
  client.on("message", (data, isBinary) => {
    for (const each of server.clients) {
      if (each.readyState === WebSocket.OPEN) each.send(data, { binary: isBinary })
    }
  })
})
