"""CoinGecko's API: REST under `/api/v3`, on the public host and on the pro host."""
