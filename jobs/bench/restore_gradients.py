"""`bench restore`, gradients: memory and time of one gradient through network and decoder.

With block inputs kept and all else recomputed, and without; each measured in a fresh process, so that peaks
do not mix: `python -m jobs.bench.restore_gradients NETWORK DEVICE SIDE FRAMES ROWS ON`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from jobs.bench.result import Target
from jobs.bench.video_memory import peak_kib
from jobs.console import say

_MIB = 2**20
#: Sides in pixels; SD1.5 has the architecture and random weights.
SIDES = {"embedded": 128, "SD1.5, random weights": 256}
QUICK_SIDE = 64
#: Recomputing must lower the peak above the resident weights at least by this share.
SAVED = 0.2

Row = dict[str, Any]


def gradient_rows(*, quick: bool) -> list[Row]:
    """One row per network, slice of the decoder, and recomputing on and off; CUDA where there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = [("embedded", 4, rows) for rows in (0, 1)]
    if not quick:
        cases.append(("SD1.5, random weights", 1, 0))
    rows = []
    for network, frames, slices in cases:
        for recompute in (False, True):
            say(f"gradients: {network}, {slices or 'all'} rows at once, recompute {recompute}")
            side = QUICK_SIDE if quick else SIDES[network]
            rows.append(_in_fresh_process(network, device, side, frames, slices, recompute))
    return rows


def gradient_targets(rows: list[Row]) -> list[Target]:
    """Per network, all rows at once: memory that recomputing saves."""
    pairs = [(off, on) for off, on in zip(rows[::2], rows[1::2], strict=True) if off["rows at once"] == "all"]
    return [
        Target(f"{off['network']}: share of a gradient's memory that recomputing saves",
               round(1.0 - on["grown MiB"] / off["grown MiB"], 3), SAVED)
        for off, on in pairs
    ]  # fmt: skip


def _in_fresh_process(network: str, device: str, side: int, frames: int, slices: int, recompute: bool) -> Row:
    arguments = [network, device, str(side), str(frames), str(slices), str(int(recompute))]
    ran = subprocess.run(
        [sys.executable, "-m", "jobs.bench.restore_gradients", *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    measured = json.loads(ran.stdout)
    return {
        "network": network,
        "device": device,
        "px": side,
        "frames": frames,
        "rows at once": slices or "all",
        "recompute": "on" if recompute else "off",
        **measured,
    }


def _main(network: str, device: str, side: int, frames: int, slices: int, recompute: bool) -> None:
    """One gradient to warm up, one measured; prints memory above what stood before, and seconds."""
    import torch

    from operators.degradations.registry import build_operator
    from operators.models import BoundPrior
    from operators.noise import keyed_normal
    from operators.solvers.data_steps import data_loss, gradient_through_network
    from operators.solvers.likelihoods import gaussian_misfit

    torch.set_num_threads(1)
    model = _model(network, device)
    model.recompute_in_backward(recompute)
    prior = BoundPrior(model)
    operator = build_operator({"kind": "super_resolution", "scale": 2}, side, side, {})
    cells = side // model.vae_factor
    z = keyed_normal((frames, model.latent_channels, cells, cells), "gradients").to(device)
    y = torch.zeros(frames, 3, side // 2, side // 2, device=device)
    loss = data_loss(operator, y, prior, gaussian_misfit)

    def gradient() -> None:
        gradient_through_network(z, 500, prior, loss, slices)
        if device == "cuda":
            torch.cuda.synchronize()

    with torch.no_grad():
        prior.decode(prior.predict(z[:1], 500).z0)
    before = _peak(device)
    begun = time.process_time() if device == "cpu" else time.perf_counter()
    gradient()
    seconds = (time.process_time() if device == "cpu" else time.perf_counter()) - begun
    grown = (_peak(device) - before) / _MIB
    print(json.dumps({"grown MiB": round(grown, 1), "s/frame": round(seconds / frames, 3)}))


def _peak(device: str) -> int:
    """Peak bytes so far: of this process, or of torch's allocator on CUDA."""
    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return peak_kib() * 1024


def _model(network: str, device: str) -> Any:
    from operators.models import LatentModel

    if network == "embedded":
        return LatentModel.from_pretrained("embedded", device=device, precision="fp32")
    return _random_sd15(device)


def _random_sd15(device: str) -> Any:
    """The architecture of Stable Diffusion 1.5, weights random: memory and time do not depend on them."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from jobs.bench.cost_networks import SD15
    from operators.models import LatentFacts, LatentModel
    from operators.noise_schedule import NoiseSchedule

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(**SD15)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            scaling_factor=0.18215,
        )
    schedule = NoiseSchedule.read(
        dict(DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").config)
    )
    facts = LatentFacts(null_condition=torch.zeros(1, 77, 768, device=device), noise_gain=1.0)
    return LatentModel(vae.to(device), unet.to(device), schedule, None, facts)


if __name__ == "__main__":
    _network, _device, _side, _frames, _slices, _recompute = sys.argv[1:]
    _main(_network, _device, int(_side), int(_frames), int(_slices), _recompute == "1")
