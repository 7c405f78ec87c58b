"""A plugin of pytest that spares each process a part of what the notebook tools load.

To check addresses in notebooks' metadata, of which ours have none, jsonschema would build a grammar for seconds. Where
the package of that grammar is missing, it does without.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
