"""The forms in which a request can carry credentials. Authentication picks the form; each form proves it."""
