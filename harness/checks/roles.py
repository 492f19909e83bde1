"""The roles of checkpoints in a run, and the default checkpoint of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.registry import Registry
from harness.checks.declaration import Declaration, read_declaration

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Role:
    """The role of a checkpoint in a run.

    `about` begins the help of the option with the role's name. The default is the model that
    `models/OWN.toml` declares, or else `models/OWN.safetensors`. If neither exists, it is the
    `shipped` model, for the shipped data and an existing folder. `known_as` names the role for a
    reader who has not seen the options.

    A role that is not `optional` always has a checkpoint. If a check of a `precondition` fails, the
    run is inconclusive. Checks against a role `of_another` are not applicable to a candidate that
    is the same network.
    """

    about: str
    known_as: str = ""
    shipped: str = ""
    own: str = ""
    optional: bool = True
    precondition: bool = False
    of_another: bool = False

    def default(self, models: Path, *, shipped_data: bool) -> Path | None:
        """Return the default checkpoint in the folder `models`; None without one.

        Raises `InputError` for a declaration that cannot be read.
        """
        declaration = self.declared(models)
        if declaration is not None:
            return declaration.weights

        own_checkpoint = models / f"{self.own}.safetensors"
        if self.own and own_checkpoint.exists():
            return own_checkpoint

        needed = not self.optional or (shipped_data and models.is_dir())
        if self.shipped and needed:
            return models / f"{self.shipped}.safetensors"
        return None

    def declared(self, models: Path) -> Declaration | None:
        """Return the declaration of the role's model in this folder; None without one."""
        if not self.own:
            return None
        return read_declaration(models / f"{self.own}.toml")

    @property
    def default_in_words(self) -> str:
        """Return a phrase that describes the default checkpoint."""
        shipped = f"models/{self.shipped}.safetensors" if self.shipped else "none"
        if self.shipped and self.optional:
            shipped += " for the shipped data, none for others"
        if not self.own:
            return shipped
        return (
            f"the declared one of models/{self.own}.toml; "
            f"else models/{self.own}.safetensors, {shipped}"
        )


INCUMBENT = "incumbent"
"""The role of the last accepted model."""
OWN_ROLES: dict[str, Role] = {
    "candidate": Role(
        "The model under test (`stress-harness list predictors` prints the kinds)",
        shipped="augmented",
        optional=False,
    ),
    "baseline": Role(
        "The model of a simpler recipe that the candidate is compared with",
        shipped="baseline",
        precondition=True,
    ),
    INCUMBENT: Role(
        "The last accepted checkpoint",
        known_as="last accepted model",
        shipped="augmented",
        own="incumbent",
        of_another=True,
    ),
    "original": Role(
        "The model that the candidate was made from, by an export, quantization or pruning"
    ),
}
"""The roles of the harness itself."""
ROLES = Registry("role", Role, OWN_ROLES, hook="stress_roles")
"""The roles, in the order in which their models are opened.

Each has an option and a fixture of its name.
"""


def role_title(role: str) -> str:
    """Return the name of a role in reports.

    It is the known name, with that of the option in parentheses.
    """
    words = ROLES[role].known_as if role in ROLES else ""
    return f"{words} ({role})" if words else role
