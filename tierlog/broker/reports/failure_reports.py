"""Reports this broker's log directories and logs that cannot be served to the controller.

Rules: failures found at the start are reported while the broker is still fenced, so that it is not elected for replicas that
it cannot serve; later failures are reported at once. With no directory left the broker stops.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from tierlog.broker.disk.log_dirs import LogDir
from tierlog.broker.replicas.hosted import Replicas
from tierlog.broker.reports.offline_replicas import OfflineReplicas, lost_dir
from tierlog.broker.work.background import Background, Kept, Run
from tierlog.errors import StorageError


class FailureReports:
    """One per broker. ``fail(why)`` stops the broker."""

    def __init__(
        self,
        broker_id: int,
        replicas: Replicas,
        offline_replicas: OfflineReplicas,
        background: Background,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._broker_id = broker_id
        self._replicas = replicas
        self._offline_replicas = offline_replicas
        self._background = background
        self._fail = fail
        self._may_report = False
        self._reports: set[Kept] = set()

    async def report_what_failed_before(self) -> None:
        """Called before the broker asks to be unfenced."""
        self._may_report = True
        for log_dir in self._replicas.log_dirs:
            if not log_dir.is_online and log_dir.directory_id:
                await self._offline_in(log_dir)
        if self._replicas.unopened:
            await self._unopened()

    async def close(self) -> None:
        for report in self._reports:
            await report.stop()

    def on_dir_failed(self, log_dir: LogDir) -> None:
        if not any(each.is_online for each in self._replicas.log_dirs):
            self._fail(StorageError("every log directory has failed"))
        elif self._may_report:
            self._report(lambda: self._offline_in(log_dir))

    def on_unopened(self) -> None:
        if self._may_report:
            self._report(self._unopened)

    def _offline_in(self, log_dir: LogDir) -> Coroutine[None, None, None]:
        concerned = [(p.topic_id, p.topic_partition.partition) for p in self._replicas.in_log_dir(log_dir)]
        return self._offline_replicas.report(log_dir.directory_id, concerned, self._well())

    def _unopened(self) -> Coroutine[None, None, None]:
        return self._offline_replicas.report(
            lost_dir(self._broker_id), list(self._replicas.unopened), self._well()
        )

    def _well(self) -> dict[tuple[bytes, int], str]:
        """The replicas that can be served, and the directory of each."""
        return {
            (p.topic_id, p.topic_partition.partition): p.log_dir.directory_id
            for p in self._replicas
            if p.offline is None
        }

    def _report(self, run: Run) -> None:
        self._reports = {report for report in self._reports if not report.is_over}
        self._reports.add(self._background.job("offline replicas", run))
