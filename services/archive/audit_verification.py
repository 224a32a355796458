"""The check of the audit log for `kurs verify`."""

from services.account_ports import AccountStore
from services.core import times
from services.core.accounts.audit import AuditChain, AuditEntry
from services.core.errors import AccessRefused

PAGE_SIZE = 2_000


async def verify_audit_log(accounts: AccountStore, optional: bool = False) -> bool:
    """Print whether the log is as it was written. Return whether it is not.

    `optional`: a process whose database role cannot read the log prints so. Raises AccessRefused otherwise.
    """
    chain = AuditChain()
    try:
        fault = await _first_fault(accounts, chain)
    except AccessRefused:
        if not optional:
            raise
        print("audit log: not checked, this process may not read it; `kurs verify audit` of `accounts` may")  # noqa: T201
        return False
    print(f"audit log: {fault or _result(chain.last)}")  # noqa: T201
    return bool(fault)


async def _first_fault(accounts: AccountStore, chain: AuditChain) -> str:
    last = -1
    while True:
        async with accounts.transaction() as tx:
            entries = await tx.audit.read_after(last, PAGE_SIZE)
        if not entries:
            return chain.end()
        if fault := chain.add(entries):
            return fault
        last = entries[-1].seq


def _result(last: AuditEntry | None) -> str:
    """Return what an operator can write down: a later check has to print the same digest for this number, or the log
    was cut or written again.
    """
    if last is None:
        return "no entries"
    return f"as written up to entry {last.seq} of {times.format_rfc3339(last.at)} with digest {last.digest}"
