"""The hostile run (`make hostile`): hostile clients, messages and clocks, and an honest client that must be served."""
