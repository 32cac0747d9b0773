"""Synthetic data under differential privacy: a table in, a table of the same schema out.

Pure: no files, no database, no clock; randomness is an argument. `synthesize` is the door, `request` says
what can be asked; `docs/explanation/synthetic-data.md` says how it works and what is claimed.
"""

from passbox.synthesis.hold_out import hold_out
from passbox.synthesis.noise import Source, seeded
from passbox.synthesis.report import Report, report
from passbox.synthesis.request import Column, Dependency, Person, Request
from passbox.synthesis.score import Noise, Scores, Thresholds, judge
from passbox.synthesis.synthesize import Synthetic, synthesize

__all__ = [
    "Column",
    "Dependency",
    "Noise",
    "Person",
    "Report",
    "Request",
    "Scores",
    "Source",
    "Synthetic",
    "Thresholds",
    "hold_out",
    "judge",
    "report",
    "seeded",
    "synthesize",
]
