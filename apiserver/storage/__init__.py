"""Storage: where objects live. `base` is the contract, `memory` and `file` implement it, `fanout` feeds watchers.

Is not: aware of kinds, schemas or HTTP.
"""
