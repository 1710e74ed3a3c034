"""Calibrate to one's own runs: rows become a profile, and predictions use it.

The rows here are made up: what is predicted, with every step a fifth slower, as on a host that is busy with other things.
"""

import waferline as wl
from waferline.predict.calibrate import Observation, calibrate

SLOWER = 1.2
ASKED = {"model": "llama-3-8b", "machine": "h100", "engine": "vllm", "precision": "bf16", "load": "static"}


def tpot_s(batch: int, profile: object = None) -> float:
    answer = wl.run(wl.Scenario(**ASKED, batch=batch, prompt=1024, output=256, profile=profile))
    return float(answer.result["itl_s"])


def main() -> None:
    rows = [
        Observation(model="llama-3-8b", hardware="h100", engine="vllm", precision="bf16", metric="tpot_s", batch=batch,
                    input_tokens=1024, output_tokens=256, value=SLOWER * tpot_s(batch))
        for batch in (1, 2, 4, 8, 16, 32, 64, 128)
    ]  # fmt: skip
    found = calibrate(rows)
    print(f"median error {found.before.median:.1%} before, {found.after.median:.1%} after")
    for batch in (1, 24, 100):  # two that were not among the rows
        print(
            f"batch {batch}: {1e3 * tpot_s(batch):.1f} ms by the catalogue, {1e3 * tpot_s(batch, found.profile):.1f} by the profile"
        )


if __name__ == "__main__":
    main()
