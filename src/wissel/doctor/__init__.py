"""Whether an Envoy that runs really asks wissel, and whether its settings are safe.

    Envoy's admin -> ask -> dump (chains, routes, clusters) -> examine (chain, filter, behind) -> Finding

What is looked for is what lets a request through undecided, cuts an answer
short or hides an outcome: most of it goes unnoticed until a bad day. A new
check is a few lines beside its like, and a breakage in its test.
"""

from wissel.doctor.ask import diagnose
from wissel.doctor.examine import Probe, State, examine, judge
from wissel.doctor.finding import Finding

__all__ = ["Finding", "Probe", "State", "diagnose", "examine", "judge"]
