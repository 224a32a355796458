"""The long fault run (`make faults`): everything is killed, stopped and restarted, and no candle may be lost."""
