import { createRequire } from "node:module";

const { KURS, UDF } = process.env;
const require = createRequire(import.meta.url);
const found = {};

// page
const { UDFCompatibleDatafeed } = require(`${UDF}/dist/bundle.js`);

const datafeed = new UDFCompatibleDatafeed(`${KURS}/udf`, 1000);
// end

const call = (start) => new Promise((resolve, reject) => start(resolve, (reason) => reject(new Error(reason))));
const now = Math.floor(Date.now() / 1000);
const configuration = await call((done) => datafeed.onReady(done));
const search = await call((done) => datafeed.searchSymbols("BINANCE:BTCUSDT", "", "", done));
const symbol = await call((done, failed) => datafeed.resolveSymbol("BINANCE:BTCUSDT", done, failed));
const period = { from: now - 86400, to: now, countBack: 300, firstDataRequest: true };
const page = await call((done, failed) =>
  datafeed.getBars(symbol, "1", period, (bars, meta) => done({ bars, meta }), failed));
const older = { ...period, from: 0, to: 86400, firstDataRequest: false };
const end = await call((done, failed) => datafeed.getBars(symbol, "1", older, (_, meta) => done(meta), failed));
const tick = await call((done) => datafeed.subscribeBars(symbol, "1", done, "one", () => {}));
datafeed.unsubscribeBars("one");
const quotes = await call((done, failed) => datafeed.getQuotes(["BINANCE:BTC-USDT"], done, failed));
const marks = await call((done) => datafeed.getMarks(symbol, now - 86400, now, done, "1"));
Object.assign(found, {
  resolutions: configuration.supported_resolutions.length,
  search: search.map((each) => each.full_name ?? each.symbol),
  bars: page.bars.map((bar) => [bar.time, bar.open, bar.high, bar.low, bar.close]),
  ended: Boolean(end.noData),
  tick: tick.close,
  quotes,
  marks: marks.length,
});
console.log(JSON.stringify(found));
process.exit();
