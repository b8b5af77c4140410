"""The vocabulary every other package speaks: ids, periods, money, events, prices, contracts.

Nothing here does I/O, and nothing here imports another package of the project.
"""
