"""Candles for people and charts, their coverage, and TradingView's UDF protocol."""
