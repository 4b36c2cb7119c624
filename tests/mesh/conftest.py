"""What several tests of this folder look through."""

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture
def page(chromium):
    """A phone that looks at it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.set_default_timeout(60_000)
        yield page
        browser.close()
