"""What the tasks of people share."""

from functools import partial

from services.accounts.vault import Vault
from services.key_files import MASTER_KEY, load_keys
from services.ports import Deps
from services.web import Composition


def make_vault(deps: Deps) -> Vault:
    """Return the vault of one process."""
    return Vault(deps.accounts, deps.clock, partial(load_keys, deps.settings, MASTER_KEY))


def compose(deps: Deps) -> Composition:
    """Return what this service adds to a process."""
    return Composition((), (), on_start=[make_vault(deps).check_master_key])
