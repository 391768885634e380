"""Through the kernel: what was kept of a name's disagreements goes with its last version, and not before."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from llmos.abi import disagreement_file
from llmos.abi.disagreement import Disagreement
from llmos.config import Config
from llmos.kernel.kernel import Kernel
from llmos.kernel.store.store import Store
from llmos.testing.models import add_base, add_model


def test_the_rows_of_a_name_go_with_its_last_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    add_base(store)
    refs = [add_model(store, "mood", "tiny:1", pid=pid).ref for pid in (901, 902)]
    row = Disagreement(
        0, time.time(), "mood", "classify", "t1", "a text", {"mood:1": "a", "mood:2": "b"}, "r", "shadow"
    )
    with disagreement_file.open_disagreements(tmp_path / disagreement_file.FILE) as database:
        disagreement_file.add_rows(database, [row])

    async def main() -> None:
        box = Kernel(Config(tmp_path, engine="null", stop_grace_s=5.0))
        await box.start()
        try:
            await box.models.remove(refs[0])
            assert [one.text for one in await box.disagreements.find("mood", "", 9)] == ["a text"]
            await box.models.remove(refs[1])
            assert await box.disagreements.find("mood", "", 9) == []
        finally:
            await box.stop()

    asyncio.run(main())
