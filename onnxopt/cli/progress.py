"""Progress on standard error, for what takes longer than two seconds on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

SECONDS_BEFORE_SHOWN = 2.0
# Drawing costs time of the processor that is being measured: twice a second is enough.
DRAWN_PER_SECOND = 2
_BELOW = 2  # the bar, and the line that the cursor stands on


class _Above:
    """What fits above the bar: of more than a screen, lines that scroll away stay behind."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment, Segments

        free = options.update(height=None)
        lines = console.render_lines(self._whole, free, pad=False)
        for each in lines[: max(0, console.height - _BELOW)]:
            yield Segments([*each, Segment.line()])


class ProgressLine:
    """Shows the text and the fraction that a long call reports; a no-op away from a terminal.

    Call it with a text and a fraction between 0 and 1, or None where the length is unknown.
    Nothing is drawn in the first two seconds, so that short work leaves the terminal alone.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._wanted = not quiet and sys.stderr.isatty()
        self._lock = threading.Lock()
        self._text = ""
        self._fraction: float | None = None
        self._bar: Any = None
        self._task: Any = None
        self._closed = False
        self._above: RenderableType | None = None
        self._began = 0.0
        self._timer = threading.Timer(SECONDS_BEFORE_SHOWN, self._show)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self._wanted:
            self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar is not None:
                self._bar.stop()

    def __call__(self, text: str, fraction: float | None = None) -> None:
        with self._lock:
            self._text, self._fraction = text, fraction
            if self._bar is not None:
                self._draw()

    def show(self, above: RenderableType) -> None:
        """Draw `above` over the bar, from now on."""
        self._above = above

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        owner = self

        class Bar(Progress):
            """A bar below what `show` was given."""

            def get_renderables(self) -> Iterable[RenderableType]:
                if owner._above is not None:
                    yield _Above(owner._above)
                yield from super().get_renderables()

        with self._lock:
            if self._closed:
                return
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}", markup=False),
                console=Console(stderr=True),
                transient=True,
                refresh_per_second=DRAWN_PER_SECOND,
                get_time=time.monotonic,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(self._text, total=None, left="")
            self._bar.tasks[0].start_time = self._began
            self._draw()
            self._bar.start()

    def _draw(self) -> None:
        total = None if self._fraction is None else 1.0
        self._bar.update(
            self._task,
            description=self._text,
            total=total,
            completed=self._fraction or 0.0,
            left=self._left(),
        )

    def _left(self) -> str:
        """Say how much longer it takes if it goes on as it did; nothing before a tenth is done."""
        if self._fraction is None or not 0.1 <= self._fraction < 1:
            return ""
        spent = time.monotonic() - self._began
        return f"{spent * (1 / self._fraction - 1):.0f} s left"
