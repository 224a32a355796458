"""The hostile run (`make hostile`): clients, messages and clocks that mean harm, and one honest client beside them."""
