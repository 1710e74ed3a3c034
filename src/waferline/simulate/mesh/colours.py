"""Colours: streams that meet at a router need different ones, and a router knows only so many."""

from __future__ import annotations

from collections.abc import Iterable

from waferline.errors import DoesNotFitError
from waferline.machines.mesh import MeshParameters


class ColourAllocator:
    """Gives each stream the lowest colour that is free at every router it crosses."""

    def __init__(self, parameters: MeshParameters) -> None:
        self.limit = parameters.colours
        self.device = parameters.device
        self._used: dict[int, set[int]] = {}

    def allocate(self, routers: Iterable[int], *, name: str = "stream") -> int:
        """A colour for a stream over `routers` (core numbers).

        Raises:
            DoesNotFitError: every colour the device routes is taken at one of these routers.
        """
        crossed = list(routers)
        taken: set[int] = set().union(*(self._used.get(router, set()) for router in crossed))
        colour = next(c for c in range(len(taken) + 1) if c not in taken)
        if colour >= self.limit:
            fullest = max(crossed, key=lambda router: len(self._used.get(router, set())))
            raise DoesNotFitError(
                f"{name} needs colour {colour + 1} of {self.limit}; core {fullest} already routes "
                f"{len(self._used.get(fullest, set()))}",
                where=f"routing of {self.device}",
                hint="relay through software, or fewer streams per router",
            )
        for router in crossed:
            self._used.setdefault(router, set()).add(colour)
        return colour

    def used_at(self, router: int) -> int:
        """Colours taken at one router."""
        return len(self._used.get(router, set()))

    @property
    def most_used(self) -> int:
        """Colours at the fullest router."""
        return max((len(used) for used in self._used.values()), default=0)


def check_colours(parameters: MeshParameters, needed: int, *, what: str) -> None:
    """Refuse a program that needs more colours per router than there are.

    Raises:
        DoesNotFitError: `needed` is above the limit.
    """
    if needed > parameters.colours:
        raise DoesNotFitError(
            f"{what} needs {needed} colours at one core and {parameters.colours} are routable",
            where=f"routing of {parameters.device}",
            hint="fewer tree levels, or a ring",
        )
