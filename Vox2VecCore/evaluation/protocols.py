"""The protocols by name; a new family of them is one more line here and a module with ``run``."""

import importlib
from dataclasses import dataclass

from Vox2VecCore.evaluation.errors import EvaluationError
from Vox2VecCore.evaluation.report import Report
from Vox2VecCore.evaluation.request import EvaluationRequest
from Vox2VecCore.progress import Progress


@dataclass(frozen=True)
class Family:
    """Protocols that one module runs, several of them side by side in one report.

    :param module: holds ``run(request, progress) -> Report``, which writes the report, too.
    """

    protocols: tuple[str, ...]
    module: str


FAMILIES = (
    Family(("match", "retrieval"), "Vox2VecCore.evaluation.matching"),
    Family(("linear", "nonlinear", "finetune", "scratch"), "Vox2VecCore.evaluation.segmentation"),
)


def evaluate(request: EvaluationRequest, progress: Progress | None = None) -> Report:
    """Run protocols and write their report.

    :raises EvaluationError: if a protocol is unknown, or protocols of two families are asked for at once; and for
        what the protocols themselves cannot do.
    :raises Cancelled: when ``progress`` says so.
    """
    known = [name for family in FAMILIES for name in family.protocols]
    for name in request.protocols:
        if name not in known:
            raise EvaluationError(f"Unknown protocol '{name}'; there are {', '.join(known)}.")
    for family in FAMILIES:
        if request.protocols and set(request.protocols) <= set(family.protocols):
            report: Report = importlib.import_module(family.module).run(request, progress or Progress())
            return report
    together = "; ".join(", ".join(family.protocols) for family in FAMILIES)
    raise EvaluationError(f"These protocols go together: {together}. Run others one after the other.")
