"""The commands of ``chamberlain policy``, by name. What each needs is imported when it runs, so that help is quick."""

from server.cli.exits import command_group
from server.cli.policy import (
    activate,
    check,
    diff,
    download,
    draft,
    explain,
    history,
    keygen,
    matrix,
    replay,
    rollback,
    shadow,
    sign,
    test,
    unused,
    upload,
    verify,
    versions,
    what_can,
    who_can,
    who_could,
)

policy = command_group("The policy files: check, test, ask, compare, and see what a change would do.")
policy.command("check")(check.command)
policy.command("test")(test.command)
policy.command("explain")(explain.command)
policy.command("who-can")(who_can.command)
policy.command("what-can")(what_can.command)
policy.command("matrix")(matrix.command)
policy.command("diff")(diff.command)
policy.command("replay")(replay.command)
policy.add_typer(shadow.shadow, name="shadow")
policy.command("versions")(versions.command)
policy.command("history")(history.command)
policy.command("upload")(upload.command)
policy.command("download")(download.command)
policy.command("activate")(activate.command)
policy.command("rollback")(rollback.command)
policy.command("keygen")(keygen.command)
policy.command("sign")(sign.command)
policy.command("unused")(unused.command)
policy.command("draft")(draft.command)
policy.command("who-could")(who_could.command)
policy.command("verify")(verify.command)
