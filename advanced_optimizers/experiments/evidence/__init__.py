"""How runs become verdicts: statistics, metrics, comparisons, rules and claims."""
