"""GraphQL at ``/graphql``: the same actions as over REST, each a field of its own, made from the same declarations."""
