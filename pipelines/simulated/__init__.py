"""The invented hospital: messages of every kind that the job reads, and the truth of what may leave. No job needs it.

personas ─ hospital (treatments) ─ chart ┬ interface_engine (signatures, malformed) ─ feeds
                                         └ truth
"""
