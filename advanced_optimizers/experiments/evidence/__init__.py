"""How runs become verdicts: statistics, metrics, comparisons, rules, and what a claim is."""
