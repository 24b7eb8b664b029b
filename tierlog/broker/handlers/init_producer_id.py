"""InitProducerId (key 22), versions 0-5: a producer id for an idempotent producer.

Behaviour: a fresh id with epoch 0, from the block of ids that this broker has taken. A producer that sends its present id
and epoch gets a fresh id too: without transactions nobody keeps them, as in Kafka.

Deliberately absent: transactions. A transactional id is answered TRANSACTIONAL_ID_AUTHORIZATION_FAILED, the code
that every client takes as final instead of trying again until its own timeout.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode
from tierlog.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services

MAX_EPOCH = 2**15 - 1


def handle(
    services: Services, ctx: RequestContext, request: InitProducerIdRequest
) -> InitProducerIdResponse | Awaitable[InitProducerIdResponse]:
    if request.transactional_id is not None:
        error = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        if request.transactional_id == "":
            error = ErrorCode.INVALID_REQUEST
        return refuse(error)
    if (request.producer_id == -1) != (request.producer_epoch == -1):
        return refuse(ErrorCode.INVALID_REQUEST)
    next_id = services.producer_ids.take()
    if next_id is not None:
        return InitProducerIdResponse(producer_id=next_id, producer_epoch=0)
    return allocate(services)


async def allocate(services: Services) -> InitProducerIdResponse:
    next_id = await services.producer_ids.allocate()
    if isinstance(next_id, ErrorCode):
        return refuse(next_id)
    return InitProducerIdResponse(producer_id=next_id, producer_epoch=0)


def refuse(error: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=error, producer_id=-1, producer_epoch=-1)
