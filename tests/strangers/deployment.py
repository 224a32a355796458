"""Where the clients are pointed."""

from pathlib import Path
from typing import NamedTuple


class Deployment(NamedTuple):
    """A Kurs, the simulator beside it, and what trusts the simulator's TLS."""

    kurs: str
    simulator: str
    secure_simulator: str  # the simulator's sockets by TLS: wss://…/simulator
    certificate: Path

    @property
    def port(self) -> int:
        """Kurs's port."""
        return int(self.kurs.rpartition(":")[2])
