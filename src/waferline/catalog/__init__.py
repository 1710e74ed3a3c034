"""Facts with sources, as data: machines, models, formats, engines, constants. Their owners read them; nothing is computed here."""

from pathlib import Path

ROOT = Path(__file__).parent
