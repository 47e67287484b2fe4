"""Opens a report in headless Chromium at 1,280 and 400 px: `report_look.py REPORT.html [--keep FOLDER]`.

Invariant: the page must not be wider than the window, must ask nothing of the network, and must show what it should.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = (1280, 400)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--virtual-time-budget=4000",
)  # fmt: skip
# A frame of the wanted width, because a headless window has a minimum of its own. The page is written into the frame,
# so that its size can be read.
PROBE = """<body style="margin:0"><iframe id="f" style="border:0;width:%dpx;height:900px"></iframe><pre id="o"></pre>
<script>
const frame = document.getElementById("f");
frame.srcdoc = %s;
frame.onload = () => {
  const inside = frame.contentDocument, page = inside.documentElement;
  const count = selector => inside.querySelectorAll(selector).length;
  // What is folded away must fit, too.
  inside.querySelectorAll("details").forEach(one => one.open = true);
  document.getElementById("o").textContent = "SIZE " + JSON.stringify({
    scroll: page.scrollWidth, client: page.clientWidth, height: page.scrollHeight,
    sections: count("section"), plots: count("figure svg"), styled: Number(
      frame.contentWindow.getComputedStyle(inside.body).fontFamily.includes("Segoe UI")),
    rollouts: count("article.rollout"), verdicts: count("article.rollout .verdict:not(:empty)"),
    rollout_plots: count("article.rollout figure svg"), intervals: count("article.rollout svg.interval"),
    decisions: count("article.rollout details:last-of-type tbody tr")});
};
</script></body>"""


def main(arguments: list[str]) -> int:
    """1 when the report does not fit or reaches outside."""
    report = Path(arguments[0])
    html = report.read_text(encoding="utf-8")
    outside = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*["']|url\([^)]*\)|@import""", html)
    found = {width: measure(html, width) for width in WIDTHS}
    keep = Path(arguments[2]) if arguments[1:2] == ["--keep"] else None
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        for width in WIDTHS:
            picture(html, width, found[width]["height"], keep / f"report-{width}.png")
    failed = bool(outside) or len(html) > 500_000
    for width, size in found.items():
        fits = size["scroll"] <= size["client"] and size["sections"] > 0 and bool(size["styled"]) and told(size)
        failed |= not fits
        sys.stdout.write(f"{'ok  ' if fits else 'FAIL'} {width} px: {size}\n")
    sys.stdout.write(f"{'FAIL' if outside else 'ok  '} outside references: {outside or 'none'}; {len(html):,} bytes\n")
    return int(failed)


def told(size: dict[str, int]) -> bool:
    """Every rollout has its verdict and a line of its log; where KPIs were judged, there are plots of them."""
    verdicts, logs = size["verdicts"] == size["rollouts"], size["decisions"] >= size["rollouts"]
    return verdicts and logs and bool(not size["intervals"] or size["rollout_plots"])


def measure(html: str, width: int) -> dict[str, int]:
    """Sizes of the page in a frame of `width` pixels."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "probe.html"
        page.write_text(PROBE % (width, json.dumps(html).replace("</", "<\\/")), encoding="utf-8")
        shown = _chromium(folder, "--dump-dom", page.as_uri())
    match = re.search(r"SIZE (\{[^}]*\})", shown)
    if match is None:
        raise SystemExit(f"chromium did not render the report at {width} px:\n{shown[-500:]}")
    sizes: dict[str, int] = json.loads(match[1].replace("&quot;", '"'))
    return sizes


def picture(html: str, width: int, height: int, target: Path) -> None:
    """A screenshot for people."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "probe.html"
        frame = PROBE.replace("900px", f"{height}px").replace('<pre id="o"></pre>', '<pre id="o" hidden></pre>')
        page.write_text(frame % (width, json.dumps(html).replace("</", "<\\/")), encoding="utf-8")
        _chromium(folder, f"--screenshot={target}", f"--window-size={max(width, 500)},{height}", page.as_uri())


def _chromium(folder: str, *arguments: str) -> str:
    binary = shutil.which("chromium")
    if binary is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    command = [binary, *FLAGS, f"--user-data-dir={folder}/profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
