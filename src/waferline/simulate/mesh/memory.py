"""A core's SRAM, byte by byte: what lies in it, and a refusal when it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from waferline.errors import DoesNotFitError, InvalidInputError, unknown
from waferline.machines.mesh import MeshParameters

WORD_ALIGNMENT_BYTES = 4  # operands start at 32-bit words, the unit the links and memory banks move


class SramLedger:
    """Allocations of one core, the code's share included. All cores of a mesh program hold the same."""

    def __init__(self, parameters: MeshParameters) -> None:
        self.parameters = parameters
        self.items: dict[str, int] = {"code and stack": parameters.code_bytes}

    @property
    def used_bytes(self) -> int:
        """Bytes taken so far."""
        return sum(self.items.values())

    @property
    def free_bytes(self) -> int:
        """Bytes left."""
        return self.parameters.sram_bytes - self.used_bytes

    def allocate(self, name: str, n_bytes: int, *, buffers: int = 1) -> int:
        """Take `buffers` times `n_bytes` for `name`, each padded to whole words; the bytes taken.

        Raises:
            DoesNotFitError: the core's SRAM would overflow.
            InvalidInputError: a negative size, or a name already taken.
        """
        if n_bytes < 0 or buffers < 1 or name in self.items:
            raise InvalidInputError(f"cannot allocate {buffers} x {n_bytes} bytes for '{name}'", where="core SRAM")
        taken = buffers * whole_words(n_bytes)
        if taken > self.free_bytes:
            raise DoesNotFitError(
                f"'{name}' takes {taken} bytes and {self.free_bytes} of {self.parameters.sram_bytes} are free",
                where=f"core SRAM of {self.parameters.device}",
                hint="smaller operands or a narrower number format",
            )
        self.items[name] = taken
        return taken

    def allocate_all(self, items: Mapping[str, int]) -> None:
        """Allocate every named size in turn."""
        for name, n_bytes in items.items():
            self.allocate(name, int(n_bytes))


def whole_words(n_bytes: int) -> int:
    """Bytes padded to whole words."""
    return -(-int(n_bytes) // WORD_ALIGNMENT_BYTES) * WORD_ALIGNMENT_BYTES


def core_memory(
    parameters: MeshParameters, width: int, height: int, items: Callable[[int, int], Mapping[str, int]]
) -> SramLedger:
    """One core's SRAM on `width` x `height` cores that each hold `items(width, height)`.

    Raises:
        DoesNotFitError: it overflows; the hint names the nearest square grid on which it does not, where there is one.
    """
    ledger = SramLedger(parameters)
    try:
        ledger.allocate_all(items(width, height))
    except DoesNotFitError as error:
        largest = min(parameters.grid_width, parameters.grid_height)
        sides = sorted(range(1, largest + 1), key=lambda s: abs(s - max(width, height)))
        fits = (s for s in sides if sum(map(whole_words, items(s, s).values())) <= parameters.data_bytes)
        side = next(fits, None)
        hint = error.hint if side is None else f"{side}x{side} cores hold it"
        raise DoesNotFitError(error.message, where=error.where, hint=hint) from None
    return ledger


ACCUMULATORS = ("fp32", "fp16")


def check_formats(parameters: MeshParameters, number_format: str, accumulator: str = "fp32") -> None:
    """Refuse number formats the cores do not compute in, or sums they do not keep.

    Raises:
        UnknownNameError: one of the two is not known.
    """
    parameters.elements_per_word(number_format)
    parameters.simd(number_format)
    if accumulator not in ACCUMULATORS:
        raise unknown("accumulator", accumulator, ACCUMULATORS)
