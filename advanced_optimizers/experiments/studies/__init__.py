"""What a study is, how it is tuned and run, and one module per topic with everything particular to it.

Importing this package registers every topic. A module with a ``TOPIC`` is a topic; the others are the machinery:
``study`` and ``sweep`` (what a study is), ``topic`` and ``registry``, ``tuning``, ``running``.
"""

from advanced_optimizers.experiments.studies.registry import (
    get_study,
    load_topic_file,
    load_topics,
    register,
    study_names,
)
from advanced_optimizers.experiments.studies.topic import Topic

__all__ = ["Topic", "get_study", "load_topic_file", "register", "study_names"]

load_topics()
