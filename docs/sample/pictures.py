"""`make pictures`: the picture of README, made of rollouts that were recorded in `docs/sample/*.json`.

Invariant: shows what `serinus rollout watch` shows at the end, by the same code; the same record gives the same bytes.
`pictures.py --record HOME SERVICE` takes the newest promoted rollout and the newest one rolled back at weights, after
`make quick` for example, whose home is `.serinus/quick/home`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from serinus.cli import rollout_view
from serinus.core.bundles import content_of
from serinus.core.names import ServiceRef
from serinus.core.rollout.spec import RolloutSpec
from serinus.core.rollout.state import RolloutState
from serinus.core.words import Phase, Stage

HERE = Path(__file__).parent
PICTURE = HERE / "rollout.svg"
RECORDS = ("promoted.json", "rolled_back.json")
_COLUMNS = 118
# Rich's own frame without its fonts, which it would load from elsewhere.
_FRAME = """\
<svg viewBox="-12 -12 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
<rect fill="#1c1c1c" x="-12" y="-12" width="{width}" height="{height}" rx="8"/>
<g clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def picture() -> str:
    """Both rollouts as SVG."""
    with Path("/dev/null").open("w") as nowhere:
        screen = Console(
            width=_COLUMNS, file=nowhere, record=True, force_terminal=True, color_system="truecolor", highlight=False
        )
        for name in RECORDS:
            one = json.loads((HERE / name).read_text(encoding="utf-8"))
            spec, state = RolloutSpec.model_validate(one["spec"]), RolloutState.model_validate(one["state"])
            expected = {Stage(stage): units for stage, units in one["expected"].items()}
            screen.print(Text(f"$ serinus rollout watch {spec.service.shown}", style="bold"))
            screen.print(rollout_view.rollout(spec, state, expected))
            screen.print()
        return screen.export_svg(code_format=_FRAME, unique_id="serinus")


def record(home: Path, service: ServiceRef) -> None:
    """Copies one promoted and one rolled back rollout of a home, without the places of its machine."""
    folders = sorted((home / "services" / service.namespace / service.name / "rollouts").iterdir())
    found = [json.loads((one / "state.json").read_text()) | {"folder": one} for one in folders]
    for name, phase in zip(RECORDS, (Phase.PROMOTED, Phase.ROLLED_BACK), strict=True):
        fitting = [one for one in found if one["phase"] == phase and one["decided_in"] == Stage.WEIGHTS]
        state = max(fitting, key=lambda one: float(one["ended_at"]))
        spec = json.loads((state.pop("folder") / "spec.json").read_text())
        for arm in ("stable", "candidate"):
            spec[arm]["storage_uri"] = content_of(spec[arm]["storage_uri"])
        _write(HERE / name, {"spec": spec, "state": state, "expected": {}})


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--record"]:
        record(Path(sys.argv[2]), ServiceRef.parse(sys.argv[3]))
    PICTURE.write_text(picture(), encoding="utf-8")
