"""The views of the app, by the name in their URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from waferline.app.page import Page
from waferline.app.question import Control
from waferline.app.views import accuracy, compare, explore, measured, runs_here, traffic, wafer
from waferline.workloads.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class View:
    """One page: its title, what it is for in a line, its inputs, and what answers. file: it takes a model as a file."""

    title: str
    about: str
    controls: Sequence[Control]
    answer: Callable[[Mapping[str, str], ModelSpec | None], Page]
    file: bool = False
    fixed: bool = True  # one question has one answer while the app runs


VIEWS: Mapping[str, View] = {
    "explore": View("Explore", "One model on one machine: does it fit, how fast, why, and how sure we are.",
                    explore.CONTROLS, explore.answer, file=True),
    "runs-here": View("What runs here", "Every model of the catalogue on one machine, in the formats that it takes.",
                      runs_here.CONTROLS, runs_here.answer),
    "compare": View("Compare", "One model on several machines and in several formats, side by side.",
                    compare.CONTROLS, compare.answer, file=True),
    "traffic": View("Traffic", "Requests through a served model, one by one: what users wait for, and when it is too much.",
                    traffic.CONTROLS, traffic.answer),
    "wafer": View("Wafer", "Matrix products on a mesh of cores, cycle by cycle.", wafer.CONTROLS, wafer.answer),
    "accuracy": View("Accuracy", "Published measurements beside what is predicted for them.",
                     accuracy.CONTROLS, accuracy.answer),
    "measured": View("Measured here", "This machine as waferline measure found it, and what ran on it beside what was predicted.",
                     measured.CONTROLS, measured.answer,
                     fixed=False),
}  # fmt: skip
