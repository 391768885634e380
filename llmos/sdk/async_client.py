"""AsyncClient: the daemon's API from asyncio. tools/sync_client.py makes the synchronous Client from this file."""

from __future__ import annotations

from llmos.sdk.aio.alerts import AsyncAlertsClient
from llmos.sdk.aio.audit import AsyncAuditClient
from llmos.sdk.aio.batches import AsyncBatchesClient
from llmos.sdk.aio.box import AsyncBoxClient
from llmos.sdk.aio.calls import AsyncCallsClient
from llmos.sdk.aio.datasets import AsyncDatasetsClient
from llmos.sdk.aio.feedback import AsyncFeedbackClient
from llmos.sdk.aio.labelling import AsyncLabellingClient
from llmos.sdk.aio.models import AsyncModelsClient
from llmos.sdk.aio.monitoring import AsyncMonitoringClient
from llmos.sdk.aio.processes import AsyncProcessesClient
from llmos.sdk.aio.trainings import AsyncTrainingsClient


class AsyncClient(
    AsyncTrainingsClient,
    AsyncLabellingClient,
    AsyncBatchesClient,
    AsyncAlertsClient,
    AsyncFeedbackClient,
    AsyncMonitoringClient,
    AsyncProcessesClient,
    AsyncCallsClient,
    AsyncDatasetsClient,
    AsyncBoxClient,
    AsyncAuditClient,
    AsyncModelsClient,
):
    """A client of the daemon. `base_url` is its address; by default the address that this user's daemon wrote down.

    `api_key` defaults to the setting of that name. Whoever owns the daemon's home needs none on its machine.
    """
