"""Headless Chromium for tests: pages opened at a width, their errors kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def need_browser() -> Any:
    """Returns playwright's entry point; skips, with the reason, where there is no browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra: dev)")
    if shutil.which("chromium") is None:
        pytest.skip("needs Chromium as 'chromium'")
    return playwright.sync_playwright


@contextmanager
def browser() -> Iterator[Any]:
    """The system's Chromium, without a window."""
    with need_browser()() as driver:
        # Chromium's own sandbox does not start for root, which CI is.
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield chromium
        chromium.close()


@contextmanager
def page(chromium: Any, url: str, width: int, scheme: str = "light") -> Iterator[tuple[Any, list]]:
    """A page that has drawn what can be seen, and the list of its console errors and dialogs."""
    size = {"width": width, "height": 900}
    context = chromium.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    opened, problems = context.new_page(), []
    opened.on("console", lambda m: m.type in ("error", "warning") and problems.append(m.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(dialog.message))
    opened.goto(url)
    opened.wait_for_selector("body[data-ready]", timeout=120_000)
    yield opened, problems
    context.close()
