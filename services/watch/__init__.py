"""`kurs watch`: rates and candles live in a terminal."""
