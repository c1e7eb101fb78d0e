"""The REST verbs: `objects` (pure rules of a write), `read`, `write`, `remove` and `watch` (use cases over a store),
`respond` (negotiated answers) and `dispatch` (HTTP in front of them). Is not: aware of any concrete kind.
"""
