"""The simulated market: one underlying price per asset, a tape of trades per listing, bars and quotes drawn from it.

Nothing here runs: all of it is a pure function of the seed, the listing and the time.
"""
