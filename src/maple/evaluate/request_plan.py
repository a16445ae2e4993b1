"""Where a task's columns come from: this machine's kept ones, another worker, or made here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maple.errors import DataError
from maple.evaluate.planned import RequestTable
from maple.evaluate.planned_store import RequestStore


class RequestPlan:
    """Where a task's columns are: kept on this machine, or held where they cannot be."""

    def __init__(
        self, make: Callable[[], RequestTable], store: RequestStore | None, key: str | None
    ) -> None:
        self._make = make
        self._kept = (store, key) if store is not None and key is not None else None
        self._held: RequestTable | None = None
        self.meta: dict[str, Any] = {}
        """Known without the columns: ``samples``, ``prompts``, ``generates``."""

    def ready(self, *, wait: bool) -> bool:
        """Makes the columns unless they are kept; False while another process makes them.

        Args:
            wait: whether to wait for that process.
        """
        if self._kept is None:
            self._held = self._make()
            self.meta = self._held.meta
            return True
        store, key = self._kept
        if self._is_kept(store, key):
            return True
        with store.claim(key, wait=wait) as is_ours:
            if not is_ours:
                return False
            if not self._is_kept(store, key):
                self._keep(self._make(), store, key)
        return True

    def table(self) -> RequestTable:
        """The columns; a file that was removed or has broken since is made again.

        Raises:
            DataError: the benchmark's files are no longer what they were.
        """
        if self._held is not None or self._kept is None:
            assert self._held is not None
            return self._held
        store, key = self._kept
        table = store.open(key)
        if table is not None and table.meta == self.meta:
            return table
        before, made = self.meta, self._make()
        if made.meta != before:
            raise DataError("a benchmark's file was changed meanwhile. Run the command again.")
        self._keep(made, store, key)
        return made

    def _is_kept(self, store: RequestStore, key: str) -> bool:
        meta = store.meta(key)
        self.meta = meta or {}
        return meta is not None

    def _keep(self, table: RequestTable, store: RequestStore, key: str) -> None:
        self.meta = table.meta
        if not table.can_be_kept or not store.keep(key, table):
            self._held = table
