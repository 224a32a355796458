"""Candles for people and charts: what is kept, how complete it is, and TradingView's protocol."""
