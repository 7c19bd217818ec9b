"""An explanation as a page: the verdict first, then why, then what could be done about it."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from actions.authorization.answers import CountingRole, PolicyLine, Verdict
from actions.authorization.explain import RuleWord
from actions.authorization.grants import GrantKind
from server.cli.output import plain_console, unsteered
from server.cli.policy.words import counted, minute, more, some

if TYPE_CHECKING:
    from actions.authorization.explain import Explanation, LiftedDenies, NearMiss, RuleMatch
    from actions.authorization.grants import PolicyGrant

_SHOWN, _FEW = 4, 3
"""How many of anything are shown on lines of their own, and how many within a line; JSON has more."""
_FIELD_OF = {RuleWord.ROLE: 1, RuleWord.SCOPE: 2, RuleWord.ENTITY: 3, RuleWord.OPERATION: 4}
_CALLED = {RuleWord.ENTITY: "object", RuleWord.OPERATION: "action"}
"""What the rule files call these words."""


def show(told: "Explanation", files: str, console: Console | None = None) -> None:
    """Print it, on standard output if no console is named. ``files`` goes before the names of policy files."""
    _Page(console or plain_console(), files).explanation(told)


class _Page:
    def __init__(self, console: Console, files: str) -> None:
        self._console = console
        self._files = files

    def explanation(self, told: "Explanation") -> None:
        self._verdict(told)
        for note in told.notes:
            self._line(("But: " if note.refuses else "Note: ") + note.sentence, style="yellow" if note.refuses else "")
        if told.lift is not None:
            self._lift(told.lift)
        elif told.others:
            self._title("The same is said by")
            for match in told.others[:_SHOWN]:
                self._match(match)
            self._rest(len(told.others) - _SHOWN)
        if told.decided_by is None:
            self._near_misses(told)
            self._grants(told)

    def _verdict(self, told: "Explanation") -> None:
        where = f" in {told.scope}" if told.scope not in (None, "admin") else ""
        verdict, style = ("ALLOWED", "bold green") if told.allowed else ("DENIED", "bold red")
        if told.allowed and any(note.refuses for note in told.notes):
            verdict, style, where = "REFUSED", "bold red", f"{where}, though the rules allow it"
        self._line((verdict, style), f"  {told.principal}: {told.cell}{where}")
        if told.decided_by is not None:
            self._match(told.decided_by, "by ")
        elif told.roles:
            roles = ", ".join(_held(each.held) for each in told.roles)
            self._line(f"  no rule allows it, and none denies it, for {roles}")
        else:
            self._line("  no rule can allow it: no role counts there")
        for held in told.expired:
            self._line(f"  {_held(held)} would count, had it not ended")

    def _lift(self, lift: "LiftedDenies") -> None:
        others = lift.denies[1:]  # the first has been told of: it decides
        which = f"That line and {len(others)} more" if others else "That line"
        self._title(f"No grant can help, since a deny beats every allow. {which} would have to be lifted")
        for match in others:
            self._match(match)
        if lift.then is Verdict.ALLOW and lift.rule is not None:
            self._line("  Then it would be allowed by ", self._place(lift.rule), f": {lift.rule.text}")
        else:
            self._line("  Then it would still be denied: no rule would allow it.")

    def _match(self, match: "RuleMatch", by: str = "") -> None:
        self._line(f"  {by}", self._place(match.rule), f": {match.rule.text}")
        for path in match.paths:
            steps = [f" -> {link.text.rpartition(' ')[2]} ({link.place})" for link in path.inherits]
            self._line(f"      {_held(path.held)}{''.join(steps)} -> {match.rule.place}", style="dim")

    def _near_misses(self, told: "Explanation") -> None:
        if told.near_misses:
            self._title("These rules would allow it, but for the word that is marked")
        for miss in told.near_misses[:_SHOWN]:
            self._near_miss(miss)
        self._rest(len(told.near_misses) - _SHOWN + told.more_near_misses)

    def _near_miss(self, miss: "NearMiss") -> None:
        start, end = _span(miss.rule.text, _FIELD_OF[miss.word])
        head = Text("  ").append_text(self._place(miss.rule)).append(": ")
        text = Text(unsteered(miss.rule.text))
        text.stylize("bold yellow", start, end)
        self._console.print(head + text, soft_wrap=True)
        wanted = " or ".join(miss.needed) or "a role that counts, and none does"
        mark = " " * (len(head) + start) + "^" * (end - start)
        self._line((mark, "yellow"), f" {_CALLED.get(miss.word, miss.word)}: needed is {wanted}")

    def _grants(self, told: "Explanation") -> None:
        if not told.grants:
            self._title("No single line, and no one role more, would allow it")
            return
        self._title("What would allow it; what changes least comes first")
        for grant in told.grants[:_SHOWN]:
            self._grant(grant, told)
        self._rest(len(told.grants) - _SHOWN + told.more_grants)

    def _grant(self, grant: "PolicyGrant", told: "Explanation") -> None:
        if grant.kind is GrantKind.LINE:
            self._line(f"  add to {self._files}{grant.file}:  ", (grant.line or "", "bold"))
            self._line(f"      lets in whoever holds {some(grant.roles, len(grant.roles), _FEW)}{_users(grant, told)}")
            return
        self._line("  bind ", (grant.role, "bold"), f" in {grant.bound_in}")
        others = [str(cell) for cell in grant.gains if cell != told.cell]
        further = f"; also allows it {some(others, grant.gained - 1, _FEW)}" if grant.gained > 1 else ""
        self._line(f"      lets in nobody else{further}")
        if grant.lost:
            self._line(f"      and takes {grant.lost} away: {some(grant.loses, grant.lost, _FEW)}", style="yellow")

    def _place(self, line: PolicyLine) -> Text:
        return Text(unsteered(f"{self._files}{line.place}"), style="cyan")

    def _title(self, text: str) -> None:
        self._console.print()
        self._line((text, "bold"))

    def _rest(self, count: int) -> None:
        for line in more(count):
            self._line(f"  {line}", style="dim")

    def _line(self, *parts: str | Text | tuple[str, str], style: str = "") -> None:
        line = Text(style=style)
        for part in parts:
            if isinstance(part, Text):
                line.append_text(part)
            elif isinstance(part, tuple):
                line.append(unsteered(part[0]), part[1])
            else:
                line.append(unsteered(part))
        self._console.print(line, soft_wrap=True)


def _held(held: CountingRole) -> str:
    if held.scope is None:
        return held.role
    until = f", until {minute(held.until)}Z" if held.until else ""
    return f"{held.role} ({'held in' if held.implied else 'bound in'} {held.scope}{until})"


def _span(text: str, field: int) -> tuple[int, int]:
    """Where a word of a rule begins and ends in its line."""
    words = text.split(",")
    start = sum(len(word) + 1 for word in words[:field])
    word = words[field]
    return start + len(word) - len(word.lstrip(" ")), start + len(word.rstrip(" "))


def _users(grant: "PolicyGrant", told: "Explanation") -> str:
    users = grant.users
    if users is None:
        return ""
    here = counted(users.here, "other user" if told.principal.startswith("user:") else "user")
    named = f" ({', '.join(map(str, users.first))}{', ...' * (users.here > len(users.first))})" if users.first else ""
    return f": {here} here{named}; at most {users.anywhere} anywhere"
