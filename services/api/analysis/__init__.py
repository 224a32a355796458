"""What closed candles come to, over HTTP: one series, and several timeframes of a symbol together."""
