"""What long scripts have done so far, so that a run that was stopped goes on with the same command."""

from collections.abc import Sequence

from benchmarks.records import CaseT, Measured, provenance
from benchmarks.saving import ROOT


def kept(name: str, plan: Sequence[CaseT]) -> Measured[CaseT]:
    """Return what is done of a plan at this commit; nothing, if there are changes that are not committed."""
    commit = provenance("cpu", 1)["commit"]
    has_changes = commit.endswith("changes")
    path = ROOT / "runs" / f"{name}-{commit[:10]}{'-changed' if has_changes else ''}.json"
    return Measured(path, {"commit": commit}, plan, fresh=has_changes)
