"""The commands of ``chamberlain policy``, by name. What each needs is imported when it runs, so that help is quick."""

from server.cli.exits import command_group
from server.cli.policy import activate, check, download, history, keygen, rollback, sign, upload, versions

policy = command_group("The policy files: check, test, ask, compare, and see what a change would do.")
policy.command("check")(check.command)
policy.command("versions")(versions.command)
policy.command("history")(history.command)
policy.command("activate")(activate.command)
policy.command("rollback")(rollback.command)
policy.command("upload")(upload.command)
policy.command("download")(download.command)
policy.command("sign")(sign.command)
policy.command("keygen")(keygen.command)
