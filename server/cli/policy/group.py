"""The commands of ``chamberlain policy``, by name. What each needs is imported when it runs, so that help is quick."""

from server.cli.exits import command_group
from server.cli.policy import check, shadow

policy = command_group("The policy files: check, test, ask, compare, and see what a change would do.")
policy.command("check")(check.command)
policy.add_typer(shadow.shadow, name="shadow")
