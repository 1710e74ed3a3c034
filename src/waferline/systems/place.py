"""`SustainabilityModel`, `EconomicsModel` and `PlacementOptimizer`: energy, carbon, water and money of a fleet, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.catalog.yaml_file import read_packaged
from waferline.errors import InvalidInputError, unknown
from waferline.predict.power import idle_power_w
from waferline.predict.result import Field, Result
from waferline.systems.fleet import Fleet, as_fleet
from waferline.workloads.scenario import real

_HOURS = 24.0
_KILO = 1e3
_DAYS_A_YEAR = 365.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet stands: grams of CO2 equivalent a kilowatt-hour, facility energy over IT energy, dollars a
    kilowatt-hour (NaN where no source gives it)."""

    name: str
    g_per_kwh: float
    pue: float
    usd_per_kwh: float

    @classmethod
    def of(cls, region: str | None, operator: str | None) -> Place:
        """A region of `catalog/regions.yaml`, in a building of an operator there. Raises: UnknownNameError."""
        facts = read_packaged("regions.yaml")
        region, operator = region or facts["defaults"]["region"], operator or facts["defaults"]["operator"]
        for what, name, known in (("region", region, facts["regions"]), ("operator", operator, facts["pue"])):
            if name not in known:
                raise unknown(what, name, known)
        row = facts["regions"][region]
        return cls(region, row["g_per_kwh"], facts["pue"][operator]["value"], row.get("usd_per_kwh", np.nan))


class SustainabilityResult(Result):
    """What `SustainabilityModel.solve` answers. Every field broadcasts."""

    it_energy_kwh = Field("it_energy_kwh", "Of the devices alone, in kWh")
    total_energy_kwh = Field("facility_energy_kwh", "Of the whole facility, in kWh")
    carbon_footprint_kg = Field("carbon_kg", "CO2 equivalent of that, location based")
    water_usage_liters = Field("water_litres", "On site, at the fleet average of one operator")
    pue = Field("pue", "Facility energy over IT energy")


@dataclass(frozen=True, slots=True)
class SustainabilityModel:
    """Device power over time, raised by the facility and priced in carbon. Source: `catalog/regions.yaml`."""

    def solve(
        self,
        fleet: Any,
        duration_days: Any,
        datacenter: str | None = None,
        mfu: Any = 1.0,
        *,
        operator: str | None = None,
        pue: Any = None,
        power_w: Any = None,
    ) -> SustainabilityResult:
        """Energy, carbon and water of `fleet` running for `duration_days`.

        datacenter: a region of `catalog/regions.yaml`. operator: whose power usage effectiveness, unless `pue` is given.
        mfu: the share of arithmetic in use, that draws power between idle and the limit (`catalog/power.yaml`); power_w:
        what one device draws, where it was measured. Raises: UnknownNameError, InvalidInputError.
        """
        group, place = as_fleet(fleet), Place.of(datacenter, operator)
        hours = np.asarray(real("duration_days", duration_days)) * _HOURS
        watts = _device_w(group, mfu) if power_w is None else np.asarray(real("power_w", power_w))
        effectiveness = place.pue if pue is None else np.asarray(real("pue", pue, least=1.0))
        energy = watts * group.devices * hours / _KILO
        facts = read_packaged("regions.yaml")
        return SustainabilityResult(
            values={
                "it_energy_kwh": energy,
                "facility_energy_kwh": energy * effectiveness,
                "carbon_kg": energy * effectiveness * place.g_per_kwh / _KILO,
                "water_litres": energy * facts["water"]["litres_per_kwh"],
                "pue": np.asarray(effectiveness),
            },
            about={"fleet": group.title, "region": place.name},
            sources=tuple({k: str(s.get(k, "")) for k in ("title", "url", "date")} for s in facts["sources"].values()),
            not_modelled=("making the machines (embodied carbon)", "hosts, switches and storage", "hours of the day"),
        )


def _device_w(group: Fleet, mfu: Any) -> Any:
    """Watts of one device between its idle power and its limit."""
    device = group.device
    if device.tdp_w is None:
        raise InvalidInputError(f"the power of {device.name} is not known", hint="give power_w, what one device draws")
    idle = (idle_power_w(device) or 0.0) / device.tdp_w
    return device.tdp_w * np.minimum(1.0, idle + (1.0 - idle) * np.asarray(real("mfu", mfu, most=1.0)))


class EconomicsResult(SustainabilityResult):
    """What `EconomicsModel.solve` answers, energy and carbon with it."""

    capex_usd = Field("capex_usd", "The share of the purchase price that this time wears off")
    opex_energy_usd = Field("energy_usd", "The facility's electricity")
    opex_maintenance_usd = Field("maintenance_usd", "Repair and staff")
    total_opex_usd = Field("opex_usd", "Electricity and maintenance")
    tco_usd = Field("tco_usd", "Total cost of ownership over this time")


@dataclass(frozen=True, slots=True)
class EconomicsModel:
    """Purchase worn off evenly, electricity at the region's price, maintenance as a share of the purchase a year."""

    def solve(
        self,
        fleet: Any,
        duration_days: Any,
        kwh_price: Any = None,
        datacenter: str | None = None,
        *,
        mfu: Any = 1.0,
        amortization_years: Any = 3.0,
        infrastructure_multiplier: Any = 1.0,
        maintenance_share: Any = 0.0,
        device_usd: Any = None,
        **options: Any,
    ) -> EconomicsResult:
        """Dollars of owning `fleet` for `duration_days`.

        kwh_price: dollars a kilowatt-hour, where the region's is not known. device_usd: price of one device, where the
        catalogue's is not wanted. infrastructure_multiplier: host, network and building over the devices' price.
        maintenance_share: of the purchase a year. Other options are those of `SustainabilityModel.solve`.
        Raises: UnknownNameError, InvalidInputError where a price is neither known nor given.
        """
        group = as_fleet(fleet)
        used = SustainabilityModel().solve(group, duration_days, datacenter, mfu, **options)
        price = Place.of(datacenter, options.get("operator")).usd_per_kwh if kwh_price is None else kwh_price
        if kwh_price is None and np.isnan(price):
            raise InvalidInputError(
                f"no source gives the price of electricity in {used.about['region']}", hint="give kwh_price"
            )
        each = group.device.price_usd if device_usd is None else device_usd
        if each is None:
            raise InvalidInputError(f"the price of {group.device.name} is not known", hint="give device_usd")
        bought = np.asarray(real("device_usd", each)) * group.devices
        bought = bought * real("infrastructure_multiplier", infrastructure_multiplier, least=1.0)
        years = np.asarray(real("duration_days", duration_days)) / _DAYS_A_YEAR
        worn = bought * np.minimum(1.0, years / real("amortization_years", amortization_years, least=1e-6))
        energy = used["facility_energy_kwh"] * real("kwh_price", price)
        upkeep = bought * years * real("maintenance_share", maintenance_share)
        return EconomicsResult(
            values={
                **used.values,
                "capex_usd": worn,
                "energy_usd": energy,
                "maintenance_usd": upkeep,
                "opex_usd": energy + upkeep,
                "tco_usd": worn + energy + upkeep,
            },
            about=dict(used.about),
            sources=used.sources,
            not_modelled=("interest", "staff beyond the share given", *used.not_modelled),
        )


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """Regions by cost with the carbon price in it, cheapest first: name, dollars, kilograms."""

    best_region: str
    lowest_tco: float
    carbon_footprint: float
    pue: float
    top_candidates: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PlacementOptimizer:
    """Every region asked of `EconomicsModel`, with a price on its carbon."""

    def solve(
        self,
        fleet: Any,
        duration_days: float,
        regions: Sequence[str] | None = None,
        carbon_tax_per_ton: float = 100.0,
        *,
        kwh_price: float | Mapping[str, float] | None = None,
        **options: Any,
    ) -> PlacementResult:
        """The region of `regions` (all of them unless given) that costs least, carbon at `carbon_tax_per_ton` dollars.

        kwh_price: one price, or one a region. Regions without a price are left out. Raises: InvalidInputError when none is left.
        """
        tax = real("carbon_tax_per_ton", carbon_tax_per_ton)
        found: list[dict[str, Any]] = []
        for name in regions or read_packaged("regions.yaml")["regions"]:
            price = kwh_price.get(name) if isinstance(kwh_price, Mapping) else kwh_price
            if price is None and np.isnan(Place.of(name, None).usd_per_kwh):
                continue
            r = EconomicsModel().solve(fleet, duration_days, price, name, **options)
            carbon = float(r["carbon_kg"])
            cost = float(r["tco_usd"]) + tax * carbon / _KILO
            found.append({"region": name, "cost_usd": cost, "carbon_kg": carbon, "pue": float(r["pue"])})
        if not found:
            raise InvalidInputError("no region has a price of electricity", hint="give kwh_price")
        found.sort(key=lambda row: row["cost_usd"])
        best = found[0]
        return PlacementResult(best["region"], best["cost_usd"], best["carbon_kg"], best["pue"], tuple(found))
