"""What holds for every entity, in one suite that each inherits, and beside it the rules that are an entity's own."""
