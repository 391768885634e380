"""The parts of AsyncClient. tools/sync_client.py makes those of Client from them."""
