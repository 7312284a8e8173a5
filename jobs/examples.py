"""What the help of each command shows as examples; a test parses every one."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("reelweave demo", "reelweave demo --out /tmp/demo"),
    "init": ("reelweave init", "reelweave init jobs/nightly.yaml"),
    "schema": ("reelweave schema > reelweave.schema.json",),
    "plan": (
        "reelweave plan job.yaml",
        "reelweave plan job.yaml --json --set consistency.anchors=2",
        "reelweave plan job.yaml --calibration bench-out/calibration.json --price-per-hour 2.5",
    ),
    "preview": (
        "reelweave preview job.yaml",
        "reelweave preview job.yaml --video film.mp4 --at 12.5 --frames 3 --strengths 0.3,0.6,1",
    ),
    "run": (
        "reelweave run job.yaml",
        "reelweave run job.yaml --set encode.crf=20 --set output=s3://bucket/out/",
        "reelweave run job.yaml --only quarantined --address HEAD:6379",
        "reelweave run job.yaml --webhook https://hooks.example.com/T000/B000",
    ),
    "status": (
        "reelweave status out/",
        "reelweave status out/ --runs",
        "reelweave status s3://bucket/out/ --json",
    ),
    "verify": (
        "reelweave verify out/",
        "reelweave verify s3://bucket/out/ --endpoint-url http://localhost:9000",
    ),
    "report": ("reelweave report out/",),
    "compare": (
        "reelweave compare out/",
        "reelweave compare out/ --video reel-2.mp4 --layout split --at 30 --seconds 5 --to reel-2.mov",
    ),
    "clean": ("reelweave clean out/", "reelweave clean s3://bucket/out/ --older-than 14d"),
    "bench": (
        "reelweave bench restore --quick",
        "reelweave bench restore --section sr-x2 --pictures kodak/",
        "reelweave bench calibrate --job job.yaml",
    ),
    "train-embedded": (
        "reelweave train-embedded pictures/ --out my-model --minutes 150",
        "reelweave train-embedded pictures/ --out my-model --start-from my-model --part unet",
    ),
}


def examples_of(command: str) -> str:
    """The end of a command's help: one example per line."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
