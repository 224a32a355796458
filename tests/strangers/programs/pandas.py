import os

KURS = os.environ["KURS"]

# page
import json
from urllib.request import urlopen

import pandas

with urlopen(f"{KURS}/api/chart-data?symbol=BTCUSDT&timeframe=1h&limit=500") as answer:
    candles = json.load(answer)["candles"]
frame = pandas.DataFrame(candles)
frame.index = pandas.to_datetime(frame.pop("timestamp"), unit="ms", utc=True)
days = frame.resample("1D").agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"})
# end

assert frame.index.is_monotonic_increasing
assert frame[["open", "high", "low", "close", "volume"]].dtypes.eq("float64").all()
bars = frame.reset_index()
bars["timestamp"] = bars["timestamp"].astype("datetime64[ms, UTC]").astype("int64")
print(json.dumps({"bars": bars[["timestamp", "open", "high", "low", "close"]].values.tolist(), "days": len(days)}))
