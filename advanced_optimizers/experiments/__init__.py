"""What the notebooks and the report need beside an algorithm: data, models, training, records, statistics, figures."""
