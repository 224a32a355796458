"""The addresses that the clients use."""

from pathlib import Path
from typing import NamedTuple


class Deployment(NamedTuple):
    """The URLs of Kurs and its simulator, and the simulator's certificate."""

    kurs: str
    simulator: str
    secure_simulator: str  # its sockets with TLS: wss://…/simulator
    certificate: Path

    @property
    def port(self) -> int:
        """The port of Kurs."""
        return int(self.kurs.rpartition(":")[2])
