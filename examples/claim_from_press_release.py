"""Sentences as press releases write them, put to the laws of arithmetic, capacity and bandwidth. The sentences are invented."""

from waferline.cli import run

CLAIMS = (
    "Llama-3-8B fp16 on A100 80GB: 100 tokens/s at batch 1",
    "Llama-3-8B fp16 on A100 80GB: 1000 tokens/s at batch 1",
    "Llama-3-70B fp16 on RTX 4090: 30 tokens/s at batch 1",
)


def main() -> None:
    for claim in CLAIMS:
        run(["claim", "check", claim])


if __name__ == "__main__":
    main()
