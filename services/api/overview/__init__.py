"""What there is: the directions that can be asked for, the exchanges and how they stand."""
