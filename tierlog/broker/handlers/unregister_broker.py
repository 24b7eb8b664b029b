"""UnregisterBroker (key 64), version 0: takes a broker that will not come back out of the metadata.

Behaviour: any broker answers. An unknown broker is BROKER_ID_NOT_REGISTERED; a running one is refused, since it would
register again at once. Its replicas stay assigned to it: move them away before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierlog.broker.network.context import RequestContext
from tierlog.errors import ErrorCode, StoreUnavailable
from tierlog.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

if TYPE_CHECKING:
    from tierlog.broker.handlers.services import Services


async def handle(
    services: Services, ctx: RequestContext, request: UnregisterBrokerRequest
) -> UnregisterBrokerResponse:
    try:
        result = await services.admin.unregister_broker(request.broker_id)
    except StoreUnavailable as error:
        return UnregisterBrokerResponse(error_code=ErrorCode.REQUEST_TIMED_OUT, error_message=str(error))
    return UnregisterBrokerResponse(error_code=result.error, error_message=result.message)
