"""The contract between the parts: models of every document, and the pure rules that give them meaning.

Nothing in here does I/O or reads a clock; time is passed in. Both `function` and `pusher` stand on it.
"""
