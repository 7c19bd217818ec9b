"""The commands of ``chamberlain policy``, by name. What each needs is imported when it runs, so that help is quick."""

from server.cli.exits import command_group
from server.cli.policy import check, matrix, what_can, who_can

policy = command_group("The policy files: check, test, ask, compare, and see what a change would do.")
policy.command("check")(check.command)
policy.command("who-can")(who_can.command)
policy.command("what-can")(what_can.command)
policy.command("matrix")(matrix.command)
