"""Client: the daemon's API from Python. Made by tools/sync_client.py from async_client.py: edit that file."""

from __future__ import annotations

from llmos.sdk.blocking.alerts import AlertsClient
from llmos.sdk.blocking.audit import AuditClient
from llmos.sdk.blocking.batches import BatchesClient
from llmos.sdk.blocking.box import BoxClient
from llmos.sdk.blocking.calls import CallsClient
from llmos.sdk.blocking.datasets import DatasetsClient
from llmos.sdk.blocking.feedback import FeedbackClient
from llmos.sdk.blocking.labelling import LabellingClient
from llmos.sdk.blocking.models import ModelsClient
from llmos.sdk.blocking.monitoring import MonitoringClient
from llmos.sdk.blocking.processes import ProcessesClient
from llmos.sdk.blocking.trainings import TrainingsClient


class Client(
    TrainingsClient,
    LabellingClient,
    BatchesClient,
    AlertsClient,
    FeedbackClient,
    MonitoringClient,
    ProcessesClient,
    CallsClient,
    DatasetsClient,
    BoxClient,
    AuditClient,
    ModelsClient,
):
    """A client of the daemon. `base_url` is its address; by default the address that this user's daemon wrote down.

    `api_key` defaults to the setting of that name. Whoever owns the daemon's home needs none on its machine.
    """
