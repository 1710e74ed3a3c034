"""Options that several commands share, and completion of names."""

from __future__ import annotations

import typer


def complete_model(incomplete: str) -> list[str]:
    from waferline.workloads.models import model_names

    return [n for n in model_names() if n.startswith(incomplete)]


def complete_hardware(incomplete: str) -> list[str]:
    from waferline.machines.hardware import hardware_names

    return [n for n in hardware_names() if n.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    from waferline.formats import format_names

    return [n for n in format_names() if n.startswith(incomplete)]


def machine(name: str) -> object:
    """What `--on` means: the measured machine at hand for `this`, else the name or path as it is."""
    if name != "this":
        return name
    from waferline.measure.machine_file import this_machine

    return this_machine()


MODEL = typer.Argument(
    help="A catalogue name, a Hugging Face config.json, or a GGUF file.", autocompletion=complete_model
)
ON = typer.Option(
    "--on", help="A machine of the catalogue, a YAML file, or 'this' once measured.", autocompletion=complete_hardware
)
PRECISION = typer.Option(
    "--precision", "-p", help="fp16, int4, w8a8, q4_k_m, 'w=fp8,kv=fp8', ...", autocompletion=complete_format
)
JSON = typer.Option("--json", help="Print data instead of tables.")
