"""`reelweave demo`: degrade the bundled clip, restore it, stylize the result, measure, show."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.console import DONE, FAILED, quiet_stdout, say
from jobs.demo.degrade import NOISE, SCALE, bicubic, psnr, read_clip, write_degraded
from jobs.demo.sheet import write_sheet
from jobs.progress import progress
from jobs.report import Measures, write_report
from jobs.run import run_spec
from jobs.spec import JobSpec, parse_spec
from pipeline.errors import ReelweaveError, SpecError

if TYPE_CHECKING:
    from pipeline.events import Event
    from pipeline.graph import RunSummary

ASSETS = Path(__file__).resolve().parent
TRUTH = ASSETS / "bbb.mp4"
REFERENCE = ASSETS / "reference.png"
_SHOWN = 40


@dataclass(frozen=True)
class DemoResult:
    """Where the demo wrote its results, and PSNR in dB against the truth."""

    source: Path
    restored: Path
    stylized: Path
    report: str
    psnr_bicubic: float
    psnr_restored: float
    seconds: float

    @property
    def better(self) -> bool:
        """Whether restoring beat bicubic enlargement."""
        return self.psnr_restored > self.psnr_bicubic


def command(out: Path) -> int:
    """Run the demo, print its figures and where to look; exit code 1 when restoring did not help."""
    with quiet_stdout(), progress() as show:
        result = run_demo(out, show)
    for line in result_lines(result):
        print(line)
    if not result.better:
        say("reelweave: the restored clip is not better than bicubic enlargement; something is broken")
        return FAILED
    return DONE


def run_demo(out: Path, on_event: Callable[[Event], None]) -> DemoResult:
    """Write everything below ``out``. Raises ReelweaveError when a video was quarantined."""
    from pipeline.cluster import start_ray
    from pipeline.events import Event
    from pipeline.store import Store

    begun = time.monotonic()
    out = Path(os.path.abspath(out))
    source = out / "source" / "bbb.mp4"
    restored, stylized = out / "restored" / "videos" / "bbb.mp4", out / "videos" / "bbb.mp4"
    on_event(Event("log", f"degrading the bundled clip: {SCALE} x smaller, noise {NOISE}", 0, 0))
    try:
        write_degraded(TRUTH, source)
    except OSError as error:
        raise SpecError(f"--out: {out} cannot be written: {error.strerror}", field="--out") from None
    first, second = restore_job(source, out / "restored"), stylize_job(restored, out)
    with start_ray(first.to_settings().cluster):
        on_event(Event("log", "job 1 of 2: restoring", 0, 0))
        _run(first, on_event)
        on_event(Event("log", "job 2 of 2: stylizing the restored clip", 0, 0))
        summary = _run(second, on_event)

    truth, degraded, better = (read_clip(path)[1] for path in (TRUTH, source, restored))
    psnr_bicubic, psnr_restored = psnr(bicubic(degraded), truth), psnr(better, truth)
    panels = {"before": degraded, "restored": better, "stylized": read_clip(stylized)[1]}
    write_sheet(out / "before_after.jpg", [(label, clip[_SHOWN]) for label, clip in panels.items()])
    columns = [("before", source), ("restored", restored), ("truth", TRUTH), ("stylized", stylized)]
    report = write_report(
        Store(str(out)),
        summary.run_id,
        summary.rows,
        columns={row.video_uri: [(label, str(path)) for label, path in columns] for row in summary.rows},
        measures=[_measures(psnr_bicubic, psnr_restored)],
    )
    seconds = time.monotonic() - begun
    return DemoResult(source, restored, stylized, report, psnr_bicubic, psnr_restored, seconds)


def restore_job(source: Path, output: Path) -> JobSpec:
    """Job 1: undo the degradation, whose operator and noise are known."""
    degradation = {"kind": "super_resolution", "scale": SCALE, "kernel": "area", "noise": NOISE}
    restore = {"degradation": degradation, "solver": {"name": "dpir", "steps": 2}}
    # Close to lossless, since the result is measured against the truth and stylized afterwards.
    encode = {"crf": 10}
    job = {**_common("demo-restore", source, output), "encode": encode, "enhance": [{"restore": restore}]}
    return parse_spec(job)


def stylize_job(source: Path, output: Path) -> JobSpec:
    """Job 2: the restored clip in the look of the bundled reference."""
    stylize = {"reference": str(REFERENCE), "method": {"name": "style_aligned"}}
    return parse_spec({**_common("demo-stylize", source, output), "enhance": [{"stylize": stylize}]})


def result_lines(result: DemoResult) -> list[str]:
    """The table and the places that the demo prints."""
    gain = result.psnr_restored - result.psnr_bicubic
    return [
        "",
        "PSNR against the truth, RGB, all frames",
        f"  bicubic    {result.psnr_bicubic:6.2f} dB",
        f"  restored   {result.psnr_restored:6.2f} dB  ({gain:+.2f} dB)",
        "",
        "Look at",
        f"  before     {result.source}",
        f"  restored   {result.restored}",
        f"  stylized   {result.stylized}",
        f"  report     {result.report}",
        f"  ({result.seconds:.0f} s)",
    ]


def _common(name: str, source: Path, output: Path) -> dict[str, Any]:
    return {
        "name": name,
        "seed": 7,
        "source": str(source),
        "output": str(output),
        "consistency": {"knot_every": 8, "knots_per_chunk": 3},
        # Half a GPU each: two actors fit on a machine with one.
        "cluster": {"gpus_per_actor": 0.5, "actors": [2, 2], "address": "local"},
    }


def _run(spec: JobSpec, on_event: Callable[[Event], None]) -> RunSummary:
    summary = run_spec(spec, spec.to_settings(), on_event)
    refused = [row for row in summary.rows if row.status == "quarantined"]
    if refused:
        raise ReelweaveError(f"the demo's clip was quarantined: {refused[0].code}: {refused[0].error}")
    return summary


def _measures(psnr_bicubic: float, psnr_restored: float) -> Measures:
    return Measures(
        title="Restoration against the truth",
        columns=("method", "PSNR, dB", "against bicubic, dB"),
        rows=(
            ("bicubic enlargement", f"{psnr_bicubic:.2f}", ""),
            ("restored", f"{psnr_restored:.2f}", f"{psnr_restored - psnr_bicubic:+.2f}"),
        ),
        note=f"RGB, all frames. Before: {SCALE} x smaller by area averaging, noise {NOISE} on [0, 1].",
    )
