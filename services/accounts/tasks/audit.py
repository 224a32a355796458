"""The daily care of the audit log."""

import logging

from services.accounts.context import TaskContext
from services.accounts.registry import every
from services.core.timeframes import DAY_MS

log = logging.getLogger(__name__)


@every(86_400, "trim_audit_log")
async def trim_audit_log(context: TaskContext) -> None:
    """Delete entries older than `KURS_AUDIT_DAYS`, and log the newest one.

    Nothing in the database shows that the end of the log was cut off. The digest in an operator's log archive does.
    """
    deps = context.deps
    now = deps.clock.now()
    async with deps.accounts.transaction() as tx:
        deleted = await tx.audit.trim(now - deps.settings.audit_days * DAY_MS, now)
        last = await tx.audit.last()
    if last:
        text = "audit log: entry %d has digest %s; %d old entries are deleted"
        log.info(text, last.seq, last.digest, deleted)
