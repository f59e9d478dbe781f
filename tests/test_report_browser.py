"""The page about runs in a real browser: nothing fails, nothing is fetched, and it can be used by all."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import launch

ROOT = pathlib.Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or ""
try:  # `make test` reads this file too, and does not install them; `make test-slow` does
    from axe_playwright_python import sync_playwright as axe
    from playwright import sync_api as playwright
except ImportError:
    axe = playwright = None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(playwright is None, reason="needs pip install -e '.[browser]'"),
    pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium on the path, such as Debian's package"),
]

ALONE = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
ALONE += ("--disable-component-update", "--disable-sync")  # it asks nobody for anything of its own
SMALL = ("train.epochs=None", "train.batch_size=64", "train.log_every=10", "train.evaluate_train=False")
KINDS = {
    "digits_cnn": ("train.steps=60", "train.eval_every=20", "model={'name': 'MLP', 'widths': (8,)}"),
    "digits_autoencoder": ("train.steps=20",),
}


class Opened:
    """A page in the browser, and what went wrong or was asked for while it was open."""

    def __init__(self, browser, file: pathlib.Path, *, scheme: str = "light", width: int = 1280):
        self.context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.records: list[dict] = []  # of its run
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.locator(".plot").first.scroll_into_view_if_needed()
        self.page.wait_for_selector(".plot svg")

    def faults(self) -> list[str]:
        """Serious or critical findings of axe-core."""
        found = axe.Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]

    def overflow(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")

    def lines(self) -> int:
        """Curves in the first chart."""
        return self.page.locator(".plot").first.locator("g.mark-line path[d^='M']").count()

    def steps(self) -> set[str]:
        """What the first chart writes along its steps."""
        labels = self.page.locator(".plot").first.locator("g.role-axis-label").first
        return set(labels.locator("text").all_text_contents())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def reports(folder) -> dict[str, pathlib.Path]:
    """A page of what answers, one of what makes images, and one of two runs."""
    for config, flags in KINDS.items():
        words = [f"--config={ROOT}/configs/{config}.py", *(f"--config.{flag}" for flag in (*SMALL, *flags))]
        assert launch.main([*words, f"--workdir={folder}/{config}"]) == 0
    runs = {config: [f"{folder}/{config}"] for config in KINDS}
    runs["two"] = [*runs["digits_cnn"], str(shutil.copytree(folder / "digits_cnn", folder / "<b>again"))]
    for name, words in runs.items():
        assert launch.main(["report", *words, f"--out={folder}/{name}.html", "--mistakes=2"]) == 0
    return {name: folder / f"{name}.html" for name in runs}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield opened
        opened.close()


@pytest.fixture
def one(browser, reports) -> Iterator[Opened]:
    opened = Opened(browser, reports["digits_cnn"])
    lines = (reports["digits_cnn"].parent / "digits_cnn/metrics.jsonl").read_text().splitlines()
    opened.records = list(map(json.loads, lines))
    yield opened
    opened.context.close()
    assert opened.said == []


@pytest.mark.parametrize("name", [*KINDS, "two"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_nothing_fails_nothing_is_fetched_and_all_can_read_it(browser, reports, name, scheme, width):
    opened = Opened(browser, reports[name], scheme=scheme, width=width)
    for more in opened.page.locator("details > summary").all():
        more.click()
    for plot in opened.page.locator(".plot").all():
        plot.scroll_into_view_if_needed()  # then it is drawn
        plot.locator("svg").wait_for()
    assert opened.faults() == []
    assert opened.overflow() <= 0
    assert opened.page.locator("b").count() == 0  # the name of a folder is text
    assert opened.page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert [url for url in opened.asked if not url.startswith("data:")] == [reports[name].as_uri()]
    assert opened.said == []

    opened.context.close()


def test_pointing_at_a_curve_tells_its_numbers(one):
    plot = one.page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    one.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    one.page.mouse.move(box["x"] + box["width"] * 0.61, box["y"] + box["height"] * 0.5)
    tip = one.page.wait_for_selector("#vg-tooltip-element.visible")
    told = dict([cell.inner_text() for cell in row.query_selector_all("td")] for row in tip.query_selector_all("tr"))
    assert told["of"] in ("train", "validation")
    record = next(record for record in one.records if record["step"] == int(told["step"]))
    assert float(told["loss"]) == pytest.approx(record[f"{told['of']}/loss"], rel=1e-4)
    lit = plot.locator("g.mark-symbol path").evaluate_all(
        "(dots) => dots.filter((dot) => dot.getBBox().width > 8).length"
    )
    assert 1 <= lit <= 2  # the dots of that step


def test_a_word_of_the_legend_switches_its_curves_by_mouse_and_keyboard(one):
    assert one.lines() == 2
    train = one.page.get_by_label("train", exact=True)
    train.click()
    one.page.wait_for_timeout(200)
    assert one.lines() == 1
    train.focus()
    one.page.keyboard.press("Space")
    one.page.wait_for_timeout(200)
    assert one.lines() == 2


def test_steps_are_zoomed_by_numbers_by_wheel_and_back(one):
    whole = one.steps()
    one.page.fill("#from", "20")
    one.page.fill("#to", "30")
    one.page.keyboard.press("Tab")
    one.page.wait_for_timeout(200)
    assert one.steps() != whole
    one.page.click("#whole")
    one.page.wait_for_timeout(200)
    assert one.steps() == whole
    plot = one.page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    plot.hover()
    one.page.mouse.wheel(0, -300)  # this scrolls the page, and leaves the chart alone
    one.page.wait_for_timeout(200)
    assert one.steps() == whole
    plot.hover()
    one.page.keyboard.down("Control")
    one.page.mouse.wheel(0, -300)
    one.page.keyboard.up("Control")
    one.page.wait_for_timeout(300)
    assert one.steps() != whole


def test_a_cell_opens_its_pictures_by_mouse_and_keyboard(one):
    cell = one.page.locator("button[data-cell]").first
    cell.click()
    dialog = one.page.locator("dialog[open]")
    assert dialog.locator("img").count() == min(24, int(cell.get_attribute("data-count")))
    assert dialog.locator("img").first.get_attribute("alt").startswith("example ")
    assert one.faults() == []
    one.page.keyboard.press("Escape")
    assert dialog.count() == 0
    cell.focus()
    one.page.keyboard.press("Enter")
    assert dialog.count() == 1
    dialog.get_by_role("button", name="Close").press("Enter")
    assert dialog.count() == 0
    assert one.page.evaluate("document.activeElement.dataset.cell") == cell.get_attribute("data-cell")


def test_charts_follow_the_colours_of_the_system(browser, reports):
    inks = {}
    for scheme in ("light", "dark"):
        opened = Opened(browser, reports["digits_cnn"], scheme=scheme)
        label = opened.page.locator(".plot g.role-axis-label text").first
        inks[scheme] = label.evaluate("(text) => getComputedStyle(text).fill")
        opened.context.close()
    assert inks["light"] != inks["dark"]


def test_it_is_written_by_a_process_that_knows_nothing_of_this_one(folder, reports):
    """As a user writes it, with the run given by a relative path."""
    words = [sys.executable, ROOT / "launch.py", "report", "digits_autoencoder", "--out=fresh.html"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Written: fresh.html" in done.stdout
    assert (folder / "fresh.html").stat().st_size < 5_000_000
