"""Parts of Client. Made by tools/sync_client.py from aio/__init__.py: edit that file."""
