"""Why a row misses its target, in words that the table shows beneath; written by hand after a run."""

REASONS: dict[str, str] = {}  # row name -> reason
