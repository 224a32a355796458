import json
import os
import subprocess
import sys

KURS = os.environ["KURS"]
command = ["generate", "-i", f"{KURS}/openapi.json", "-g", "python", "-o", "generated", "--package-name", "kurs"]
subprocess.run(["openapi-generator-cli", *command], check=True, stdout=sys.stderr)
sys.path.insert(0, "generated")

# page
# openapi-generator-cli generate -i $KURS/openapi.json -g python -o generated --package-name kurs
import kurs

client = kurs.ApiClient(kurs.Configuration(host=KURS))
courses = kurs.RatesApi(client).courses_v1(direction="BTC-USD")
candles = kurs.CandlesApi(client).chart_data(symbol="BTCUSDT", timeframe="1h", limit=50)
values = kurs.IndicatorsApi(client).indicators(symbol="BTCUSDT", timeframe="1h", indicators="sma:20,macd", limit=50)
# end

answers = {"courses": courses, "chart_data": candles, "indicators": values}
print(json.dumps({name: answer.to_dict() for name, answer in answers.items()}))
