const { KURS, EVENTS } = process.env;
let left = Number(EVENTS);

function seen(event) {
  if (left <= 0) return;
  console.log(JSON.stringify({ channel: event.type, id: event.lastEventId, data: JSON.parse(event.data) }));
  if (--left === 0) source.close();
}

// page
import { EventSource } from "eventsource";

const channels = ["btc_usd", "candles:BTCUSDT:1m"];
const source = new EventSource(`${KURS}/v1/stream?channels=${channels}&timer=0`);
for (const channel of channels) source.addEventListener(channel, seen);
// end
