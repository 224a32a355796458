"""The fault run (`make faults`): processes and servers fail in many ways, and no candle may be lost."""
