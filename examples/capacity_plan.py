"""What to rent for a chat service: the cheapest deployment that holds its goals, the runner-up, and what would change the plan."""

import waferline as wl

REQUESTS_PER_S = 2.0
GOALS = "p99-ttft=2s,p99-tpot=60ms"


def main() -> None:
    traffic = wl.Traffic(rate_per_s=REQUESTS_PER_S, prompt=512, output=64)
    found = wl.plan("llama-3-8b", machines=["l40s", "l4"], traffic=traffic, slo=GOALS, precisions=["fp8"])
    for name, f in (("plan", found.best), ("runner-up", found.runner_up)):
        if f is not None:
            c = f.candidate
            print(f"{name}: {c.devices} x {c.device.name} ({c.precision}, {c.replicas} replicas), ${c.usd_per_h:.2f}/h, "
                  f"TTFT p99 {1e3 * f.values['ttft_p99_s']:.0f} ms, holds with {f.probability:.0%}: {f.binding}")  # fmt: skip
    for change in found.changes:
        print(f"would change it: {change}")
    print(found.commands["vllm"])


if __name__ == "__main__":
    main()
