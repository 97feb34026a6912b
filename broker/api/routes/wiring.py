"""What every route is handed."""

from typing import Annotated

from fastapi import Depends, Header, Request

from broker.api.idempotency import Answers
from broker.api.operations import Operations as OperationsProtocol


def _operations(request: Request) -> OperationsProtocol:
    operations: OperationsProtocol = request.app.state.operations
    return operations


def _answers(request: Request) -> Answers:
    answers: Answers = request.app.state.answers
    return answers


Operations = Annotated[OperationsProtocol, Depends(_operations)]
KeptAnswers = Annotated[Answers, Depends(_answers)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key and request from the same user get the same answer while the daemon lives.",
    ),
]
