"""The process: what happens to deliveries when it forks and when it ends."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from ai_ledger.database.turns import turns
from ai_ledger.forks import Living
from ai_ledger.journal.folder import held
from ai_ledger.loading import loading

if TYPE_CHECKING:
    from ai_ledger.delivery.delivery import Delivery

log: Final = logging.getLogger("ai_ledger")

# Those that the fork in progress is about, and those whose locks it holds.
_forking: list[Delivery] = []
_locked: list[Delivery] = []
_LONGEST_WAIT_SECONDS: Final = 1.0
# One fork at a time: two threads may have the idea together.
_fork_lock = threading.Lock()


def register(delivery: Delivery) -> None:
    """Look after *delivery* from now on."""
    _living.add(delivery)


def watch_multiprocessing() -> None:
    """
    See to it that the end of a `multiprocessing` child is noticed.

    Such a child leaves through ``os._exit``, past every atexit callback, and
    runs finalizers of its own. They are cleared when the child starts, so this
    has to be called from within it.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None:
        return
    from multiprocessing import util

    util.Finalize(None, _at_exit, exitpriority=-100)


def _at_exit() -> None:
    # All deliveries share the time that the most patient of them has.
    deliveries = [each for each in _living if each.is_running]
    if not deliveries:
        return
    started = time.monotonic()
    for delivery in deliveries:
        delivery.run_exit_callbacks()
    for delivery in deliveries:
        try:
            delivery.end_at_exit(started + delivery.exit_timeout)
        except Exception as error:  # the others still have to end
            log.warning("a ledger could not be closed", exc_info=error)


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_living)
    # A child that is born while a thread of its parent is inside SQLite, or in the
    # middle of an import, finds a lock that nobody will ever open. So sinks may
    # finish what they are at, unless they hang.
    for delivery in _forking:
        delivery.is_forking = True
    while any(delivery.is_at_work() for delivery in _forking):
        time.sleep(0.001)
    # An import may end an abandoned call, which appends; so before those locks. The
    # module itself lets go of it.
    loading.before_fork()
    # Nor may any other thread be inside SQLite. This module lets go of it as well.
    turns.before_fork()
    # Only the locks of appending, which nobody holds for long unless a disk hangs;
    # never one that is held while a sink is at work. The child has locks of its own.
    for delivery in _forking:
        if delivery.journal.lock.acquire(timeout=_LONGEST_WAIT_SECONDS):
            _locked.append(delivery)
    # In the order of an append, which may take the second lock within the first.
    held.before_fork()


def _after_fork_in_parent() -> None:
    held.after_fork_in_parent()
    for delivery in reversed(_locked):
        delivery.journal.lock.release()
    _locked.clear()
    for delivery in _forking:
        delivery.is_forking = False
    _forking.clear()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock
    _fork_lock = threading.Lock()
    held.after_fork_in_child()
    _forking.clear()
    _locked.clear()


if hasattr(os, "register_at_fork"):
    loading.is_awaited_elsewhere = turns.is_awaited_elsewhere = True
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
# Registered after the hooks above: what is held begins anew before the deliveries do.
_living: Final[Living[Delivery]] = Living()

# Callbacks run in reverse order. The earlier this module is imported, the more
# of the program's own callbacks are over when this one runs.
atexit.register(_at_exit)
