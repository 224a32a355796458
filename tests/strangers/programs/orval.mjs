import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";

const { KURS } = process.env;
writeFileSync("orval.config.mjs", `
// page
// npx orval
export default {
  kurs: {
    input: "${KURS}/openapi.json",
    output: { target: "kurs.ts", client: "fetch", baseUrl: "${KURS}" },
  },
};
// end
`);
writeFileSync("call.mts", `
// page
import { chartData, coursesV1, indicators } from "./kurs.ts";

const courses = await coursesV1({ direction: "BTC-USD" });
const candles = await chartData({ symbol: "BTCUSDT", timeframe: "1h", limit: 50 });
const values = await indicators({ symbol: "BTCUSDT", timeframe: "1h", indicators: "sma:20,macd", limit: 50 });
if (candles.status === 200) candles.data.candles.at(-1)?.close?.toFixed(2); // typed
// end
console.log(JSON.stringify({ courses: courses.data, chart_data: candles.data, indicators: values.data }));
`);
const options = { stdio: ["ignore", process.stderr, "inherit"] };
execFileSync("orval", ["--config", "orval.config.mjs"], options);
execFileSync("tsc", ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable",
  "--rewriteRelativeImportExtensions", "--outDir", "built", "call.mts"], options);
console.log(execFileSync(process.execPath, ["built/call.mjs"], { encoding: "utf8" }));
