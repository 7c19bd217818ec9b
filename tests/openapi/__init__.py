"""The OpenAPI document: held to the declarations, to a client made from it, and to the server's conduct."""
