"""PLMR compliance: does an algorithm respect the four properties of the device; if not, which limit breaks where."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from waferline.errors import DoesNotFitError
from waferline.machines.mesh import MeshParameters


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of P, L, M, R: what the algorithm takes, what is allowed, and where it is tightest."""

    letter: str
    quantity: str
    value: float
    limit: float
    where: str

    @property
    def passes(self) -> bool:
        """Within the limit."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Compliance:
    """The four requirements of WaferLLM section 3.1 for one run."""

    parallelism: Requirement
    latency: Requirement
    memory: Requirement
    routing: Requirement

    @property
    def requirements(self) -> tuple[Requirement, Requirement, Requirement, Requirement]:
        """P, L, M, R."""
        return (self.parallelism, self.latency, self.memory, self.routing)

    @property
    def passes(self) -> bool:
        """All four hold."""
        return all(r.passes for r in self.requirements)

    def to_json(self) -> dict[str, object]:
        """As data: each letter with its figures."""
        rows = {r.letter: {**asdict(r), "passes": r.passes} for r in self.requirements}
        return {"passes": self.passes, **rows}


IDLE_SHARE = 0.25
"""Share of the cores that zero padding may leave idle before the partition is said not to be parallel (our choice)."""


def parallelism(idle_cores: int, cores: int, where: str) -> Requirement:
    """P: the partition gives work to (nearly) all cores, over both axes of the mesh."""
    return Requirement("P", "cores without work", idle_cores, IDLE_SHARE * cores, where)


def latency(quantity: str, value: float, limit: float, where: str) -> Requirement:
    """L: hops or software stages on the critical path of a step, against the best scheme's."""
    return Requirement("L", quantity, value, limit, where)


def memory(used_bytes: int, sram_bytes: int, where: str = "every core") -> Requirement:
    """M: bytes of a core's SRAM, code included."""
    return Requirement("M", "SRAM bytes per core", used_bytes, sram_bytes, where)


def routing(colours: int, limit: int, where: str = "every router") -> Requirement:
    """R: colours at one router."""
    return Requirement("R", "colours per router", colours, limit, where)


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
