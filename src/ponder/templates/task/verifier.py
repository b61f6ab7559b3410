"""What counts as right for this task: the number, and small numbers may be written as words.

A verifier looks at a problem and a response, and decides. It never raises: what a model writes is right,
wrong or, when the problem itself cannot be graded, unknown.
"""

from ponder.core.answers import final_answer
from ponder.core.types import Problem, Verdict
from ponder.verifiers.number import number

WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def verify(problem: Problem, response: str) -> Verdict:
    """Judge the final answer of a response."""
    answer = final_answer(response).text or ""
    if answer.lower() in WORDS:
        response = str(WORDS.index(answer.lower()))
    return number(problem, response)


plugin = verify
