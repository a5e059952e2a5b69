"""Load and faults of all kinds together, over real processes, until an upstream's own ledger says who was right.

``python -m tests.soak`` is the long one; the short ones are tests of the suite. What each part is for:

    play        one run: servers, load and faults, the end
    cast        the servers, proxies, workers and beats of a run
    nemesis     the faults, 5 s on and 5 s off, drawn from the seed
    load        what callers ask for, drawn from the seed
    bank        the upstream: an HTTP server that misbehaves as it is told, and keeps a ledger
    connectors  the workers' ways to the bank
    verdict     the ledger against the journal
    gauges      memory and file handles of the processes that live long
    report      the page that tells of a run
    anchor      thousands of effects while PostgreSQL is killed again and again
    faulty_store  a store of which some calls fail before they are executed, and some after
"""
