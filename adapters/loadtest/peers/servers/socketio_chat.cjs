// The chat of Socket.IO's tutorial: an event that goes to everybody.
const { createServer } = require("node:http")
const { Server } = require("socket.io")

const http = createServer()
const io = new Server(http)

io.on("connection", (socket) => {
  socket.on("chat", (message) => io.emit("chat", message))
})

http.listen(Number(process.argv[2]), "127.0.0.1")
