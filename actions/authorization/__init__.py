"""From policy files to decisions: parse, compile, decide, compare with Casbin, analyse."""
