const { KURS, EVENTS } = process.env;
let left = Number(EVENTS);

function seen(message) {
  if (left <= 0) return;
  console.log(JSON.stringify(message));
  if (--left === 0) process.exit();
}

// page
import WebSocket from "ws";

const last = {}; // by channel

function connect() {
  const socket = new WebSocket(`${KURS.replace("http", "ws")}/ws/chart-data`);
  socket.on("open", () => {
    for (const channel of ["btc_usd", "candles:BTCUSDT:1m"]) {
      const how = last[channel] ? { action: "resume", after: last[channel] } : { action: "subscribe" };
      socket.send(JSON.stringify({ ...how, channels: [channel] }));
    }
  });
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (!message.seq) return;
    last[message.channel ?? `candles:${message.symbol}:${message.timeframe}`] = message.seq;
    seen(message);
  });
  socket.on("error", () => {}); // `close` follows
  socket.on("close", () => setTimeout(connect, 1000));
}
connect();
// end
