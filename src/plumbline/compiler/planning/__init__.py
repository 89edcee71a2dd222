"""L2, planning: fixes the operator order and every address before anything runs. Imports only errors.

The modules are pure functions over plain values, in the order in which they are used:

    order        node, sizes           -> operator order with a low peak
    lifetimes    steps                 -> first and last step of every value
    alias        values, wishes        -> which values share one buffer, and why the others do not
    lower_bound  buffers               -> the bytes that no plan can go under
    memory       buffers               -> an address for each buffer: the allocation plan
    picture      allocation plan       -> SVG for people, JSON for programs

`verify_assignment` (alias_check) and `verify_plan` (memory_check) judge the results and share no code with
the makers.
"""
