"""How long the page of `launch.py report` takes to open in a browser, how large it is, and what axe-core finds.

    python benchmarks/report_page.py runs/mnist_lenet5 [RUN ...] --times=20

Needs Chromium on the path and `pip install -e '.[report,browser]'`. Each time is of a browser that has just started,
from the moment at which the page is asked for: to its load event, and to its first chart.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import launch

FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
FIRST_CHART = """async () => {
  const plot = document.querySelector(".plot");
  plot.scrollIntoView();
  while (!plot.querySelector("svg")) await new Promise((done) => setTimeout(done, 5));
  return performance.now();
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--times", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "report.html")
        if code := launch.main(["report", *args.runs, f"--out={file}"]):
            return code
        loaded, drawn = zip(*(opened(file) for _ in range(args.times)), strict=True)
        print(f"{file.stat().st_size / 1e6:.2f} MB; n = {args.times}, milliseconds:")
        for name, values in (("loaded", loaded), ("first chart", drawn)):
            print(f"{name}: median {statistics.median(values):.0f}, largest {max(values):.0f}")
        for scheme in ("light", "dark"):
            print(f"axe-core, {scheme}: {findings(file, scheme) or 'nothing'}")
    return 0


def opened(file: pathlib.Path) -> tuple[float, float]:
    """Milliseconds to the load event and to the first chart."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        drawn = page.evaluate(FIRST_CHART)
        browser.close()
    return loaded, drawn


def findings(file: pathlib.Path, scheme: str) -> dict[str, str]:
    """Rules that the page breaks, and how grave axe-core calls that."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_context(color_scheme=scheme).new_page()
        page.goto(file.as_uri())
        page.evaluate(FIRST_CHART)
        found = {one["id"]: one["impact"] for one in Axe().run(page).response["violations"]}
        browser.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
