import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";

const { KURS } = process.env;
writeFileSync("call.mts", `
// page
// npx openapi-typescript $KURS/openapi.json --output kurs.d.ts
import createClient from "openapi-fetch";
import type { paths } from "./kurs.d.ts";

const client = createClient<paths>({ baseUrl: "${KURS}" });
const wanted = { symbol: "BTCUSDT", timeframe: "1h", limit: 50 } as const;
const courses = await client.GET("/v1/courses", { params: { query: { direction: "BTC-USD" } } });
const candles = await client.GET("/api/chart-data", { params: { query: wanted } });
const values = await client.GET("/api/indicators", { params: { query: { ...wanted, indicators: "sma:20,macd" } } });
candles.data?.candles.at(-1)?.close?.toFixed(2); // typed
// end
console.log(JSON.stringify({ courses: courses.data, chart_data: candles.data, indicators: values.data }));
`);
const options = { stdio: ["ignore", process.stderr, "inherit"] };
execFileSync("openapi-typescript", [`${KURS}/openapi.json`, "--output", "kurs.d.ts"], options);
execFileSync("tsc", ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom",
  "--outDir", "built", "call.mts"], options);
console.log(execFileSync(process.execPath, ["built/call.mjs"], { encoding: "utf8" }));
