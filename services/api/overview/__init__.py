"""The directions and the exchanges."""
