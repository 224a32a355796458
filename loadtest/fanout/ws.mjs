// node's ws: one message to every client, made once. node ws.mjs FOLDER_WITH_WS PORT SIZE PER_SECOND, which begins at
// SIGUSR2.
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(`${process.argv[2]}/`)("ws");
const [port, size, perSecond] = process.argv.slice(3).map(Number);
const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate: false, backlog: 4096 });

function message() {
  const now = process.hrtime.bigint() / 1000n;
  const close = `${now / 1000000n}.${String(now % 1000000n).padStart(6, "0")}`;
  const head = `{"type":"price_update","close":"${close}","padding":"`;
  return Buffer.from(`${head.padEnd(size - 2, "x")}"}`);
}

let next;
function fanOut() {
  const made = message();
  for (const client of server.clients) client.send(made, { binary: false });
  next += 1000 / perSecond;
  setTimeout(fanOut, Math.max(0, next - performance.now()));
}

process.once("SIGUSR2", () => {
  next = performance.now();
  fanOut();
});
