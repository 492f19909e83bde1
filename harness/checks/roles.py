"""The roles that checkpoints have in a run, and which checkpoint has each by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.checks.declaration import Declaration, read_declaration

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Role:
    """The role of a checkpoint in a run; `about` begins the help of the option with the role's name.

    By default it is the model that `models/OWN.toml` declares. Without that file it is `models/OWN.safetensors` if that
    exists. Else it is the `shipped` model, if the data are the shipped ones and the folder exists. `known_as` is its
    name for a reader who has not seen the options. A role that is not `optional` always has a checkpoint. Checks about
    a `precondition` must hold for anything to be judged. A role `of_another` has nothing to say of a candidate that is
    the same network.
    """

    about: str
    known_as: str = ""
    shipped: str = ""
    own: str = ""
    optional: bool = True
    precondition: bool = False
    of_another: bool = False

    def default(self, models: Path, *, shipped_data: bool) -> Path | None:
        """Return the checkpoint that it is by default, of those in the folder `models`; None for none.

        Raises `InputError` for a declaration that cannot be read.
        """
        if (declared := self.declared(models)) is not None:
            return declared.weights
        if self.own and (own := models / f"{self.own}.safetensors").exists():
            return own
        needed = not self.optional or (shipped_data and models.is_dir())
        return models / f"{self.shipped}.safetensors" if self.shipped and needed else None

    def declared(self, models: Path) -> Declaration | None:
        """Return the declaration of the role's model in this folder; None without one."""
        return read_declaration(models / f"{self.own}.toml") if self.own else None

    @property
    def default_in_words(self) -> str:
        """Say which checkpoint it is by default."""
        shipped = f"models/{self.shipped}.safetensors" if self.shipped else "none"
        if self.shipped and self.optional:
            shipped += " for the shipped data, none for others"
        if not self.own:
            return shipped
        return f"the declared one of models/{self.own}.toml; else models/{self.own}.safetensors, {shipped}"


INCUMBENT = "incumbent"
"""The role of the last accepted model."""
ROLES: dict[str, Role] = {
    "candidate": Role("The checkpoint under test", shipped="augmented", optional=False),
    "baseline": Role("The plain model that the candidate is compared with", shipped="baseline", precondition=True),
    INCUMBENT: Role(
        "The currently shipped model, which is the last accepted checkpoint",
        known_as="currently shipped model",
        shipped="augmented",
        own="incumbent",
        of_another=True,
    ),
    "original": Role("The model that the candidate was made from, by an export, quantization or pruning"),
}
"""The roles, in the order in which their models are opened; each has an option and a fixture of its name."""


def role_title(role: str) -> str:
    """Return a role as reports name it: what it is to a reader, with the name that its option has in brackets."""
    words = ROLES[role].known_as if role in ROLES else ""
    return f"{words} ({role})" if words else role
