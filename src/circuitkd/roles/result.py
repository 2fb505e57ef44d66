"""What `describe_roles` returns: roles and their validation for both models, and what became of the teacher's components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuitkd.artifacts import load_run, read_manifest, save_run
from circuitkd.comparison.result import Comparison
from circuitkd.roles.brittleness import Brittleness
from circuitkd.roles.direct_attribution import LogitAttribution
from circuitkd.roles.fate_result import Fates
from circuitkd.roles.head_probes import HeadProbes
from circuitkd.roles.lens import LogitLens, StreamContributions
from circuitkd.roles.mlps import MlpComparison, MlpPlane
from circuitkd.roles.ov import OvTest
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.probes import ProbeResult
from circuitkd.roles.role_scoring import RoleScores


@dataclass(frozen=True, eq=False)
class ModelRoles:
    """One model's roles and what speaks for them. `ov` asks the weights, `ov_on_prompts` the answer position. What could
    not be done for this model and task is None, and named in the `left_out` of the whole result; `head_probes` is also None
    in a result of a version that did not make them."""

    scores: RoleScores
    ov: OvTest | None
    ov_on_prompts: OvTest
    patching: ActivationPatching | None
    probes: ProbeResult | None
    lens: LogitLens
    contributions: StreamContributions
    attribution: LogitAttribution
    head_probes: HeadProbes | None = None


@dataclass(frozen=True, eq=False)
class RolesResult:
    """A teacher and a student on one task. `planes`: each teacher MLP with its lookalike. `left_out`: what -> why it could
    not be done."""

    teacher: ModelRoles
    student: ModelRoles
    mlps: MlpComparison | None
    planes: tuple[MlpPlane, ...]
    fates: Fates
    brittleness: Brittleness
    left_out: dict[str, str]
    warnings: tuple[str, ...]
    manifest: dict[str, str]

    def belongs_to(self, comparison: Comparison) -> bool:
        """Whether models, examples and ablation are those of `comparison`."""
        return comparison.is_basis_of(self.manifest)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder: manifest.json, result.json, arrays.safetensors. Raises ValueError when it cannot be
        written."""
        return save_run(folder, self, manifest=self.manifest)

    @classmethod
    def load(cls, folder: str | Path) -> RolesResult:
        """Read a run folder. Raises ValueError for one that is unfinished, damaged or of another kind."""
        read_manifest(folder)
        return load_run(folder, cls)
