"""waferline: how fast, how big and how costly an ML model runs on any machine, and how we know.

Everything public is an attribute of this package and is imported when first used, so that `import waferline` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from waferline.version import __version__

# public name -> module that defines it
_PUBLIC = {
    "Hardware": "waferline.machines.hardware",
    "load_hardware": "waferline.machines.hardware",
    "Models": "waferline.workloads.models",
    "load_model": "waferline.workloads.load",
    "ServingModel": "waferline.predict.serving",
    "SingleNodeModel": "waferline.predict.single",
    "TrainingModel": "waferline.predict.training",
    "WeightStreamingModel": "waferline.predict.wafer",
    "WaferResidentModel": "waferline.predict.wafer",
    "CompressionModel": "waferline.predict.compression",
    "Engine": "waferline.predict.shortcut",
    "grid": "waferline.predict.shortcut",
    "explain": "waferline.predict.difference",
    "Scenario": "waferline.predict.scenario",
    "run": "waferline.predict.run",
    "compare": "waferline.predict.compare",
    "Traffic": "waferline.simulate.serving.traffic",
    "ServerOptions": "waferline.traffic.options",
    "simulate_serving": "waferline.traffic.serve",
    "plan": "waferline.traffic.planning.plan",
    "solve": "waferline.search.solve",
    "sensitivity": "waferline.search.sensitivity",
    "SensitivitySolver": "waferline.search.solvers",
    "SynthesisSolver": "waferline.search.solvers",
    "frontier": "waferline.search.frontier",
    "what_runs": "waferline.traffic.planning.here",
    "Fleet": "waferline.systems.fleet",
    "TailLatencyModel": "waferline.systems.queueing",
    "ReliabilityModel": "waferline.systems.reliability",
    "CheckpointModel": "waferline.systems.reliability",
    "ScalingModel": "waferline.systems.scaling",
    "InferenceScalingModel": "waferline.systems.scaling",
    "TopologyModel": "waferline.systems.network",
    "SustainabilityModel": "waferline.systems.place",
    "EconomicsModel": "waferline.systems.place",
    "PlacementOptimizer": "waferline.systems.place",
    "DataModel": "waferline.systems.data",
    "DistributedModel": "waferline.systems.distributed",
    "NetworkRooflineModel": "waferline.systems.distributed",
    "ContinuousBatchingModel": "waferline.systems.batching",
    "BatchingOptimizer": "waferline.systems.batching",
    "ParallelismOptimizer": "waferline.systems.parallelism",
    "Pipeline": "waferline.systems.pipeline",
    "ForwardModel": "waferline.systems.pipeline",
    "Device": "waferline.machines.device",
    "Result": "waferline.predict.result",
    "this_machine": "waferline.measure.machine_file",
    "measurements": "waferline.measure.measurements",
    "get_format": "waferline.formats",
    "format_names": "waferline.formats",
    "show": "waferline.show",
    "ureg": "waferline.units",
    "Q_": "waferline.units",
    "WaferlineError": "waferline.errors",
    "InvalidInputError": "waferline.errors",
    "UnknownNameError": "waferline.errors",
    "FileFormatError": "waferline.errors",
    "UnsupportedError": "waferline.errors",
    "DoesNotFitError": "waferline.errors",
    "RefusedError": "waferline.errors",
}
_MODULES = {"show"}  # public names that are modules themselves

if TYPE_CHECKING:
    from waferline import show
    from waferline.errors import (
        DoesNotFitError,
        FileFormatError,
        InvalidInputError,
        RefusedError,
        UnknownNameError,
        UnsupportedError,
        WaferlineError,
    )
    from waferline.formats import format_names, get_format
    from waferline.machines.device import Device
    from waferline.machines.hardware import Hardware, load_hardware
    from waferline.measure.machine_file import this_machine
    from waferline.measure.measurements import measurements
    from waferline.predict.compare import compare
    from waferline.predict.compression import CompressionModel
    from waferline.predict.difference import explain
    from waferline.predict.result import Result
    from waferline.predict.run import run
    from waferline.predict.scenario import Scenario
    from waferline.predict.serving import ServingModel
    from waferline.predict.shortcut import Engine, grid
    from waferline.predict.single import SingleNodeModel
    from waferline.predict.training import TrainingModel
    from waferline.predict.wafer import WaferResidentModel, WeightStreamingModel
    from waferline.search.frontier import frontier
    from waferline.search.sensitivity import sensitivity
    from waferline.search.solve import solve
    from waferline.search.solvers import SensitivitySolver, SynthesisSolver
    from waferline.simulate.serving.traffic import Traffic
    from waferline.systems.batching import BatchingOptimizer, ContinuousBatchingModel
    from waferline.systems.data import DataModel
    from waferline.systems.distributed import DistributedModel, NetworkRooflineModel
    from waferline.systems.fleet import Fleet
    from waferline.systems.network import TopologyModel
    from waferline.systems.parallelism import ParallelismOptimizer
    from waferline.systems.pipeline import ForwardModel, Pipeline
    from waferline.systems.place import EconomicsModel, PlacementOptimizer, SustainabilityModel
    from waferline.systems.queueing import TailLatencyModel
    from waferline.systems.reliability import CheckpointModel, ReliabilityModel
    from waferline.systems.scaling import InferenceScalingModel, ScalingModel
    from waferline.traffic.options import ServerOptions
    from waferline.traffic.planning.here import what_runs
    from waferline.traffic.planning.plan import plan
    from waferline.traffic.serve import simulate_serving
    from waferline.units import Q_, ureg
    from waferline.workloads.load import load_model
    from waferline.workloads.models import Models

__all__ = [
    "Q_",
    "BatchingOptimizer",
    "CheckpointModel",
    "CompressionModel",
    "ContinuousBatchingModel",
    "DataModel",
    "Device",
    "DistributedModel",
    "DoesNotFitError",
    "EconomicsModel",
    "Engine",
    "FileFormatError",
    "Fleet",
    "ForwardModel",
    "Hardware",
    "InferenceScalingModel",
    "InvalidInputError",
    "Models",
    "NetworkRooflineModel",
    "ParallelismOptimizer",
    "Pipeline",
    "PlacementOptimizer",
    "RefusedError",
    "ReliabilityModel",
    "Result",
    "ScalingModel",
    "Scenario",
    "SensitivitySolver",
    "ServerOptions",
    "ServingModel",
    "SingleNodeModel",
    "SustainabilityModel",
    "SynthesisSolver",
    "TailLatencyModel",
    "TopologyModel",
    "Traffic",
    "TrainingModel",
    "UnknownNameError",
    "UnsupportedError",
    "WaferResidentModel",
    "WaferlineError",
    "WeightStreamingModel",
    "__version__",
    "compare",
    "explain",
    "format_names",
    "frontier",
    "get_format",
    "grid",
    "load_hardware",
    "load_model",
    "measurements",
    "plan",
    "run",
    "sensitivity",
    "show",
    "simulate_serving",
    "solve",
    "this_machine",
    "ureg",
    "what_runs",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'waferline' has no attribute '{name}'")
    from waferline.door import admit

    module = importlib.import_module(_PUBLIC[name])
    value = admit(module if name in _MODULES else getattr(module, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_PUBLIC, "__version__"])
