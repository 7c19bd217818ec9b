"""GraphQL."""

from tests.world.world import World


async def test_x(world: World) -> None:
    for who, q, v in (
        (
            "dana",
            'query($id: ID!) { domainUser(scope:{domain:"research"}, id:$id) { id username status createdAt allowedClientIp version } nope: domainUser(scope:{domain:"elsewhere"}, id:$id) {id}}',
            {"id": str(world.id("mia"))},
        ),
        (
            "dana",
            '{ domainSearchUsers(scope:{domain:"research"}, filter:{username:{in:["mia","dana"]}}, order:[{field:USERNAME, direction:DESC}], first: 1) { edges {node {username} cursor} pageInfo {hasNextPage endCursor} totalCount totalCountExact } }',
            {},
        ),
        (
            "root",
            'mutation($i: NewUser!) { domainCreateUser(scope:{domain:"research"}, input:$i) { id username } b: domainCreateUser(scope:{domain:"research"}, input:{username:"x y", email:"b", password: "short"}) {id} }',
            {
                "i": {
                    "username": "zed",
                    "email": "zed@example.org",
                    "password": "a long password ok",
                    "allowedClientIp": [],
                }
            },
        ),
        (
            "root",
            '{ userWhoamiUser(scope:{user:"me"}) { username bindings {role scopeType} } __schema { queryType {name} } }',
            {},
        ),
        ("root", "{ nope }", {}),
        (
            "root",
            "query($i: UserFilter) { adminSearchUsers(filter:$i) {totalCount} }",
            {"i": {"username": {"eq": 3}, "AND": [{"status": "X"}]}},
        ),
        ("root", "{ adminSearchUsers(filter:{username:{equals: 3}}) {totalCount} }", {}),
    ):
        a = await world.as_(who).send("POST", "/graphql", {"query": q, "variables": v})
        print(a.status_code, a.text)
    print((await world.stranger().send("POST", "/graphql", {"query": "{ __typename }"})).text)
    print((await world.stranger().send("GET", "/graphql")).text)
