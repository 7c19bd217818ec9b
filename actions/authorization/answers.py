"""What the workbench answers with: the parts that more than one answer is made of.

The same models come from the command line on a folder and from the server's actions, and are printed in one place.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from actions.authorization.rules import RoleLink, Rule
from actions.model import Output
from actions.vocabulary import Permission


class Verdict(StrEnum):
    """What the rules say of a cell: an allow, an explicit deny, or nothing at all, which refuses too, but yields to an
    allow of another role."""

    ALLOW = "allow"
    DENY = "deny"
    NONE = "none"


class PolicyLine(Output):
    """A line of a policy file."""

    file: str
    line: int
    text: str = Field(description="As it is written there.")

    @classmethod
    def of(cls, said: Rule | RoleLink) -> "PolicyLine":
        text = said.text if isinstance(said, Rule) else f"g, {said.role}, {said.inherits}"
        return cls(file=said.file, line=said.line, text=text)

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class Cell(Output):
    """What is asked for, in the policy's words."""

    scope: str
    entity: str
    operation: str

    @classmethod
    def of(cls, permission: Permission) -> "Cell":
        return cls(scope=permission.scope, entity=permission.entity, operation=permission.operation)

    def __str__(self) -> str:
        return f"{self.scope}:{self.entity}:{self.operation}"


class CountingRole(Output):
    """A role that counts, and why."""

    role: str
    scope: str | None = Field(
        default=None, description="Where it is bound: `admin`, or `domain:` and an id. Null: it was only supposed."
    )
    implied: bool = Field(default=False, description="Held without a binding: as the owner, or as a system principal.")
    until: datetime | None = None


class RolePath(Output):
    """How a rule came to count: a role that is held, and the lines by which it inherits the role of the rule."""

    held: CountingRole
    inherits: list[PolicyLine] = Field(default_factory=list)
