"""Write every generated page of the documentation: `python -m docs.build [NAME ...]`. No number in them is typed."""

from __future__ import annotations

import importlib
import sys

# page -> module whose build() writes it and answers with the paths
PAGES = {
    "lessons": "docs.blocks",
    "quantization": "docs.lessons.quantization",
    "catalogue": "docs.pages.catalogue",
    "wafer": "docs.pages.wafer",
    "accuracy": "docs.pages.accuracy",
    "studies": "docs.pages.studies",
    "techniques": "docs.pages.techniques",
    "peers": "docs.pages.peers",
    "kernels": "docs.pages.kernels",
    "serving": "docs.pages.serving",
    "inputs": "docs.pages.inputs",
    "reliability": "docs.pages.reliability",
    "api": "docs.pages.api",
    "home": "docs.pages.home",
    "readme": "docs.pages.readme",
}


def main(names: list[str]) -> int:
    """Write the pages called `names`, or all; 2 for an unknown name."""
    unknown = [n for n in names if n not in PAGES]
    if unknown:
        print(f"unknown page {unknown[0]!r}; pages: {', '.join(PAGES)}", file=sys.stderr)
        return 2
    for name in names or PAGES:
        for path in importlib.import_module(PAGES[name]).build():
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
