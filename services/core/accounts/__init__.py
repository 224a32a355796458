"""People, their credentials and what they may do: values and decisions without I/O."""
