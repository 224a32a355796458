import json
import os
import subprocess
import sys

KURS = os.environ["KURS"]
command = ["generate", "--url", f"{KURS}/openapi.json", "--meta", "none", "--output-path", "kurs", "--overwrite"]
subprocess.run(["openapi-python-client", *command], check=True, stdout=sys.stderr)
sys.path.insert(0, ".")

# page
# openapi-python-client generate --url $KURS/openapi.json --meta none --output-path kurs
from kurs import Client
from kurs.api.candles import chart_data
from kurs.api.indicators import indicators
from kurs.api.rates import courses_v1

client = Client(base_url=KURS)
courses = courses_v1.sync(client=client, direction="BTC-USD")
candles = chart_data.sync(client=client, symbol="BTCUSDT", timeframe="1h", limit=50)
values = indicators.sync(client=client, symbol="BTCUSDT", timeframe="1h", indicators="sma:20,macd", limit=50)
# end

answers = {"courses": courses, "chart_data": candles, "indicators": values}
print(json.dumps({name: answer.to_dict() for name, answer in answers.items()}))
