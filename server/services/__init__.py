"""Services: the rules of each entity, and which handler carries out which declared action."""
