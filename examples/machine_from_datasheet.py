"""A machine before it ships: its data sheet becomes a file, and the file answers like any other. The machine is invented."""

import tempfile
from pathlib import Path

import waferline as wl

SHEET = """
name: acme-n2
title: Acme N2 48 GB
vendor: Acme
kind: gpu
architecture: acme
year: 2027
group: Cloud
units: 96
clock_hz: 1.9e9
power: {tdp_w: 350}
peak_flops: {fp16: 400e12, bf16: 400e12, fp8: 800e12, int8: 800e12}
memory:
  - {name: L2, capacity_bytes: 64e6, bandwidth_bytes_per_s: 6e12}
  - {name: GDDR7, capacity_bytes: 48e9, bandwidth_bytes_per_s: 1.8e12}
citations:
  - {title: an invented sheet, url: "https://example.org/n2", date: 2026-11-29, covers: [units, peak_flops, memory, power]}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "acme-n2.yaml"
        path.write_text(SHEET, encoding="utf-8")
        for machine in (str(path), "l40s"):
            r = wl.run(wl.Scenario(model="llama-3-8b", machine=machine, precision="fp8", batch=16)).result
            low, high = 1e3 * float(r["itl_low90_s"]), 1e3 * float(r["itl_high90_s"])
            print(f"{r.about['hardware']}: TPOT {1e3 * float(r['itl_s']):.1f} ms ({low:.1f} to {high:.1f}), "
                  f"light {1e3 * float(r['light_itl_s']):.1f}, known by {r['decode_tier']}")  # fmt: skip


if __name__ == "__main__":
    main()
