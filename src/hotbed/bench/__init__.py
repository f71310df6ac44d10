"""`hotbed bench`: every figure hotbed states, measured beside its baseline in one run.

How it is built, from what decides to what acts:

    figures, row, verdict, report    pure: statistics, what a row is, what it came to, how it reads
    work, scenario                   the work that is measured
    loop, host                       inside a process of its own: one entrant and its clock
    engines, peers, floors, rawfork  the entrants
    guest, rounds                    outside: start those processes, let them take turns
    *_rows, catalogue, command       the rows, their list, the command
"""
