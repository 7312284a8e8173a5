"""The command line: wiring only. Each command's work lives in the file of its name."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from jobs import clean as clean_command
from jobs import compare as compare_command
from jobs import init as init_command
from jobs import plan as plan_command
from jobs import preview as preview_command
from jobs import report as report_command
from jobs import run as run_command
from jobs import runs as runs_command
from jobs import schema as schema_command
from jobs import status as status_command
from jobs import train_embedded as train_embedded_command
from jobs import verify as verify_command
from jobs.bench import command as bench_command
from jobs.console import INTERRUPTED, guarded, say
from jobs.demo import demo as demo_command
from jobs.examples import examples_of
from pipeline.errors import SpecError

app = typer.Typer(
    name="reelweave",
    help="Restores and restyles whole video catalogs with latent diffusion, as a batch job on Ray Data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Only(StrEnum):
    """Which videos a run is about."""

    quarantined = "quarantined"


Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.", show_default=False)]
Out = Annotated[
    str, typer.Argument(metavar="OUT", help="A job's output folder or s3:// URL.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Override one value of the job file; may be repeated."),
]
Partial = Annotated[
    bool, typer.Option("--allow-partial", help="Process files that were cut off as far as they go.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint-url", envvar="AWS_ENDPOINT_URL", help="S3 endpoint, when OUT is not on AWS."),
]


@app.command(epilog=examples_of("demo"))
@guarded
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.")] = Path("demo-out"),
) -> int:
    """Restore and stylize the bundled clip with the embedded model; needs nothing else."""
    return demo_command.command(out)


@app.command(epilog=examples_of("init"))
@guarded
def init(
    path: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The file to write.")] = Path("job.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> int:
    """Write a commented job file."""
    return init_command.command(path, force)


@app.command(epilog=examples_of("schema"))
@guarded
def schema() -> int:
    """Print the JSON Schema of the job file, for editors."""
    return schema_command.command()


@app.command(epilog=examples_of("plan"))
@guarded
def plan(
    job: Job,
    overrides: Overrides = None,
    allow_partial: Partial = False,
    as_json: Json = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Estimate hours by what 'bench calibrate --job' has measured."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(metavar="PRICE", min=0.0, help="Of a GPU, or of an actor on CPUs.")
    ] = None,
) -> int:
    """Show what would run; writes nothing."""
    options = with_partial(overrides, allow_partial)
    return plan_command.command(job, options, as_json, calibration, price_per_hour)


@app.command(epilog=examples_of("preview"))
@guarded
def preview(
    job: Job,
    overrides: Overrides = None,
    video: Annotated[
        str | None,
        typer.Option(metavar="V", help="End of a source's path. Default: the first three."),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(metavar="SEC", help="Seconds from the start. Default: spread evenly."),
    ] = None,
    frames: Annotated[int, typer.Option(metavar="N", help="Frames per video.", min=1, max=32)] = 2,
    strengths: Annotated[
        str, typer.Option(metavar="LIST", help="Strengths of stylizations, a column each.")
    ] = "0.25,0.5,0.75,1",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the sheet goes.")] = preview_command.KEPT,
    as_json: Json = False,
) -> int:
    """Show a few frames before and after, under several strengths; publishes nothing."""
    return preview_command.command(job, overrides or [], video, at, frames, strengths, out, as_json)


@app.command(epilog=examples_of("run"))
@guarded
def run(
    job: Job,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="Ray cluster: auto, local or ray://...")
    ] = None,
    only: Annotated[Only | None, typer.Option(help="Try the quarantined videos again.")] = None,
    max_failures: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="End the run when more than N videos have failed in it."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="However many videos fail, go on: the default.")
    ] = False,
    allow_partial: Partial = False,
    as_json: Json = False,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="REELWEAVE_WEBHOOK",
            show_envvar=True,
            help="POST the summary there as JSON, however the run ends.",
        ),
    ] = None,
) -> int:
    """Run or resume a job.

    Exit code 0: all done; 3: some videos quarantined; 2: bad input, nothing was started; 1: failed, or more
    failures than allowed; 130: interrupted. After 1 and 130 the same command resumes.
    """
    if keep_going and max_failures is not None:
        raise SpecError("--keep-going allows any number of failures and --max-failures does not; give one")
    options = with_partial(overrides, allow_partial)
    quarantined = only is Only.quarantined
    return run_command.command(job, options, address, quarantined, max_failures, as_json, webhook)


@app.command(epilog=examples_of("status"))
@guarded
def status(
    out: Out,
    runs: Annotated[bool, typer.Option("--runs", help="A row per run instead, oldest first.")] = False,
    as_json: Json = False,
    endpoint_url: Endpoint = None,
) -> int:
    """Show what is done, left and quarantined, from the store alone."""
    return (runs_command if runs else status_command).command(out, endpoint_url, as_json)


@app.command(epilog=examples_of("verify"))
@guarded
def verify(out: Out, as_json: Json = False, endpoint_url: Endpoint = None) -> int:
    """Measure every published video again and compare it with its manifest row."""
    return verify_command.command(out, endpoint_url, as_json)


@app.command(epilog=examples_of("report"))
@guarded
def report(out: Out, as_json: Json = False, endpoint_url: Endpoint = None) -> int:
    """Write the HTML report of the latest run again."""
    return report_command.command(out, endpoint_url, as_json)


@app.command(epilog=examples_of("compare"))
@guarded
def compare(
    out: Out,
    video: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which one, by the end of its path; if there are several."),
    ] = None,
    to: Annotated[Path, typer.Option(metavar="FILE", help="The clip to write.")] = Path("compare.mp4"),
    layout: Annotated[
        compare_command.Layout, typer.Option(help="Next to each other, or one picture divided in the middle.")
    ] = "side",
    at: Annotated[float, typer.Option(metavar="SEC", help="Where the clip begins.", min=0.0)] = 0.0,
    seconds: Annotated[float, typer.Option(help="How long it is.", min=0.001)] = 10.0,
    endpoint_url: Endpoint = None,
) -> int:
    """Write a clip that shows a published video beside its source."""
    return compare_command.command(out, video, to, layout, at, seconds, endpoint_url)


@app.command(epilog=examples_of("clean"))
@guarded
def clean(
    out: Out,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Remove what is older, such as 7d or 12h, published or not."),
    ] = None,
    as_json: Json = False,
    endpoint_url: Endpoint = None,
) -> int:
    """Remove the work files: all, once every video is published, or those above an age.

    What a later run needs again of them it computes again.
    """
    return clean_command.command(out, endpoint_url, as_json, older_than)


@app.command(epilog=examples_of("bench"))
@guarded
def bench(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"One of {bench_command.listed(bench_command.BENCHMARKS)}.",
            show_default=False,
            autocompletion=lambda: sorted(bench_command.BENCHMARKS),
        ),
    ],
    as_json: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="Finish in two minutes.")] = False,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures and clips to measure on; for "
            + bench_command.takers(lambda one: one.pictures != "none")
            + ".",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the JSON and figures go.")
    ] = bench_command.KEPT,
    section: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=bench_command.sections_help())
    ] = None,
    cycles: Annotated[int | None, typer.Option(help="For soak: kills.", min=1)] = None,
    videos: Annotated[int | None, typer.Option(help="For soak: videos of the catalog.", min=3)] = None,
    seed: Annotated[int | None, typer.Option(help="For soak: seed of clips, times and kills.", min=0)] = None,
    job: Annotated[
        Path | None, typer.Option(metavar="JOB.yaml", help="For calibrate: the job to be measured.")
    ] = None,
) -> int:
    """Measure ratios against stated bounds in one run; keeps NAME.json below --out."""
    sizes = {"cycles": cycles, "videos": videos, "seed": seed}
    return bench_command.command(name, as_json, quick, pictures, out, section or (), sizes, job)


class Part(StrEnum):
    """Networks of the embedded model."""

    vae = "vae"
    unet = "unet"


class Device(StrEnum):
    """Where training computes."""

    cpu = "cpu"
    cuda = "cuda"


@app.command("train-embedded", epilog=examples_of("train-embedded"))
@guarded
def train_embedded(
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="Folder of RGB pictures.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint to write.")] = Path("trained"),
    minutes: Annotated[
        float | None, typer.Option(help="Wall time of the run, all parts together. Default: 150.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="Length of the prior's training; half as many again for the other.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--start-from", metavar="DIR", help="Go on from this checkpoint.")
    ] = None,
    wake: Annotated[
        bool, typer.Option("--wake", help="With --start-from: give self-attention new weights.")
    ] = False,
    rate: Annotated[
        float, typer.Option(help="Multiple of the learning rates; below 1 to go on gently.")
    ] = 1.0,
    part: Annotated[
        list[Part] | None, typer.Option(help="Train this network only; may be repeated. Default: both.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.cpu,
    bf16: Annotated[bool, typer.Option(help="Matrix work in bfloat16.")] = True,
    pixels: Annotated[
        int | None,
        typer.Option(help="Pixels per batch. Default: 65536 (vae), 262144 (unet).", min=32_768),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; their number changes bits.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of weights, crops and noise.", min=0)] = 0,
    as_json: Json = False,
) -> int:
    """Train the embedded model from a folder of pictures. Stopped, it goes on from its last checkpoint."""
    return train_embedded_command.command(
        pictures,
        out,
        as_json,
        minutes=150.0 if minutes is None and iterations is None else minutes,
        iterations=iterations,
        start=start,
        wake=wake,
        rate=rate,
        parts=tuple(str(p) for p in part) if part else ("vae", "unet"),
        device=str(device),
        bf16=bf16,
        pixels=pixels,
        threads=threads,
        seed=seed,
    )


def with_partial(overrides: list[str] | None, allow: bool) -> list[str]:
    """The overrides of ``--set``, and the one that ``--allow-partial`` stands for."""
    return [*(overrides or []), *(["video.partial=true"] if allow else [])]


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # File names need not be text in the terminal's encoding.
            stream.reconfigure(errors="backslashreplace")
    # A scheduler that ends us is like a person who does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except KeyboardInterrupt:
        say("reelweave: interrupted")
        _leave_at_once()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _leave_at_once()
        raise


def _leave_at_once() -> NoReturn:
    """What was interrupted may leave threads at work in libraries, which crash when Python ends below them;
    all that is ours is closed by now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(INTERRUPTED)
