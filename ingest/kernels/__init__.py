"""Compiled inner loops: what must be done for every byte or every event, and nothing else.

Numba compiles these functions to machine code when they are first called, and keeps the result on
disk. They work on plain addresses (:mod:`ingest.kernels.memory`): an array argument would cost two
atomic operations a call. So each module has one entry that takes arrays and checks their sizes;
everything below it trusts it. No function here knows what an event means to the business.
"""
