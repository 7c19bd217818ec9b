"""What this server's policy folder held when it was last in force: one digest, in a file of the data folder.

A folder whose content changes from the active version is a person's word that this version shall go. One that has
missed what others did since is only old. The memory tells the two apart across restarts. It knows no policy.
"""

import contextlib
import re
from pathlib import Path

FILE = "policy-folder"
_DIGEST = re.compile(r"[0-9a-f]{64}\n")


class FolderMemory:
    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE

    def recall(self) -> str | None:
        """The digest; None where nothing is remembered, or nothing that could be one."""
        try:
            told = self._path.read_text("ascii")
        except (OSError, ValueError):
            return None
        return told.strip() if _DIGEST.fullmatch(told) else None

    def keep(self, digest: str) -> None:
        """Remember this one from now on. Where it cannot be written, the folder passes for an old one later: that is
        told then, and harms nothing."""
        if self.recall() == digest:
            return
        draft = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            draft.write_text(f"{digest}\n", "ascii")
            draft.replace(self._path)
