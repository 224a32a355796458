import json
import os

SIMULATOR = os.environ["SIMULATOR"]

# page
from pycoingecko import CoinGeckoAPI

client = CoinGeckoAPI()
client.api_base_url = f"{SIMULATOR}/coingecko/api/v3/"
# end

prices = client.get_price(ids=["bitcoin", "tether"], vs_currencies=["usd", "rub"], include_last_updated_at="true")
bars = client.get_coin_ohlc_by_id("bitcoin", vs_currency="usd", days=1)
chart = client.get_coin_market_chart_by_id("bitcoin", vs_currency="usd", days=1)
print(json.dumps({"ping": client.ping(), "prices": prices, "bars": bars, "points": len(chart["prices"])}))
