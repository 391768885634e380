"""Taking a backup of a home, whose daemon may run: the journal of one moment first, then what its store holds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from llmos import __version__
from llmos.abi.error import BadInput, Conflict
from llmos.abi.model import File
from llmos.backup.home_files import (
    BLOBS,
    PageFiles,
    checkpoint_identity,
    page_files,
    plain_files,
    scratch_files,
)
from llmos.backup.journal_state import place, read_state
from llmos.backup.record import BackupFile, BackupRecord
from llmos.backup.stable_copy import is_database
from llmos.backup.vault import (
    TAR,
    Show,
    Vault,
    commit_file,
    need_room,
    reading,
    verify_objects,
    writing_file,
    writing_folder,
)
from llmos.kernel.file_modes import make_private
from llmos.kernel.processes.process_runtime import Snapshot

TRIES = 5
MOST_OPEN = 256  # files at once; a process may open 1,024 by default
CHANGED = "Its checkpoint was replaced each time it was read, so process {} would begin anew"


@dataclass(frozen=True, slots=True)
class TakenBackup:
    """What came of it: the record, where it is, and how many bytes were new and read back."""

    record: BackupRecord
    place: str
    new_bytes: int
    verified_bytes: int
    freed_bytes: int = 0


@dataclass(slots=True)
class Collector:
    """Copies the files of one home to a vault."""

    home: Path
    vault: Vault
    show: Show
    is_quick: bool = False
    most_open: int = MOST_OPEN
    files: dict[str, BackupFile] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    new: dict[str, int] = field(default_factory=dict)  # the objects that were not there before
    proven: dict[str, int] = field(default_factory=dict)  # those that were, and were read again

    def collect(self, state: Snapshot, journal: Path) -> None:
        """Everything of the home; `journal` is a file with the journal's snapshot."""
        self._put(place(self.home), journal)
        pages = list(self._plain())
        self._blobs(pages)
        for process in state.processes:
            if not process.is_ended:
                self._scratch(process.pid)

    def _plain(self) -> Iterator[PageFiles]:
        for path in plain_files(self.home):
            try:
                self._put(path)
                found = page_files(self.home, path, path.read_bytes()) if path.suffix == ".json" else None
            except FileNotFoundError:
                continue  # it was removed after it was listed
            except BadInput:
                self.notes.append(f"{path} cannot be read, so the files of this version are not in the backup")
                continue
            if found is not None:
                yield found

    def _blobs(self, pages: list[PageFiles]) -> None:
        """The bytes of every version; a version that is removed meanwhile is left out."""
        sizes = {file.digest: file for page in pages for file in page.files}
        total, done = sum(file.size_bytes for file in sizes.values()), 0
        new = [file for file in sizes.values() if not self.vault.has(file.digest, file.size_bytes)]
        need_room(self.vault.folder, sum(file.size_bytes for file in new))
        seen: set[str] = set()
        for page in pages:
            for file in page.files:
                if file.digest in seen:
                    continue
                self.show("copying", done, total)
                try:
                    self._put_blob(file)
                except FileNotFoundError:
                    self._leave_out(page, file)
                    break
                seen.add(file.digest)
                done += file.size_bytes
        self.show("copying", total, total)

    def _put_blob(self, file: File) -> None:
        path = self.home / BLOBS / file.digest
        mode = path.stat().st_mode & 0o700
        if not self._is_there(file.digest, file.size_bytes):
            self.vault.add(path, file.digest)
            self.new[file.digest] = file.size_bytes
        relative = f"{BLOBS}/{file.digest}"
        self.files[relative] = BackupFile(relative, file.digest, file.size_bytes, mode)

    def _is_there(self, digest: str, size_bytes: int) -> bool:
        """Whether an earlier backup has it; a damaged one is written again."""
        if digest in self.new or digest in self.proven:
            return True
        if not self.vault.has(digest, size_bytes):
            return False
        if self.is_quick or self.vault.is_sound(digest):
            self.proven[digest] = size_bytes
            return True
        return False

    def _leave_out(self, page: PageFiles, lost: File) -> None:
        """A blob is gone: so is its version, or else the store is damaged."""
        if page.page.exists():
            raise Conflict(
                f"{page.page} names {lost.path}, which is lost on the disk. See what is damaged and how to mend it: "
                "llmos doctor --deep",
                path=str(page.page),
                lost=lost.path,
            )
        self.files.pop(page.page.relative_to(self.home).as_posix(), None)

    def _scratch(self, pid: int) -> None:
        """What a process that may be resumed works on, as it was at one moment.

        Its files are opened first, so that a checkpoint which is replaced while it is copied is copied to its end. Of
        a process with very many files none is, and the copy counts if no file was replaced meanwhile.
        """
        for _ in range(TRIES):
            before, kept = checkpoint_identity(self.home, pid), dict(self.files)
            with ExitStack() as opened:
                try:
                    paths = scratch_files(self.home, pid)
                    is_held = len(paths) <= self.most_open
                    held = {path: _lasting_name(path, opened) if is_held else path for path in paths}
                    if checkpoint_identity(self.home, pid) == before:
                        for path, source in held.items():
                            self._put(path, source)
                        if is_held or checkpoint_identity(self.home, pid) == before:
                            return
                except FileNotFoundError:
                    pass  # it was replaced after it was listed
            self.files = kept
        self.notes.append(CHANGED.format(pid))

    def _put(self, path: Path, source: Path | None = None) -> None:
        mode = (source or path).stat().st_mode & 0o700
        measure = self.vault.add(source or path)
        self.new.setdefault(measure.digest, measure.size_bytes)
        relative = path.relative_to(self.home).as_posix()
        self.files[relative] = BackupFile(relative, measure.digest, measure.size_bytes, mode)

    def record(self, at: float) -> BackupRecord:
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at))}-{int(at * 1e6) % 1_000_000:06d}"
        files = tuple(self.files[path] for path in sorted(self.files))
        return BackupRecord(name, at, __version__, str(self.home), files, tuple(self.notes))

    @property
    def new_bytes(self) -> int:
        """The bytes that no earlier backup had."""
        return sum(size_bytes for digest, size_bytes in self.new.items() if digest not in self.vault.earlier)


def _lasting_name(path: Path, opened: ExitStack) -> Path:
    """A name by which the file can be read to its end, whoever removes it meanwhile; of a database its own."""
    return path if is_database(path) else Path(f"/proc/self/fd/{opened.enter_context(path.open('rb')).fileno()}")


def take(
    home: Path,
    target: Path,
    freshen: Callable[[], None],
    *,
    keep: int | None = None,
    is_quick: bool = False,
    show: Show = lambda phase, done, total: None,
) -> TakenBackup:
    """Back a home up to a folder of backups, or to a new file that ends with `.tar`.

    `freshen` has the journal's snapshot written. `keep` so many backups of the folder. With `is_quick` what earlier
    backups have stored is not read again. All that is new is read back before the backup exists.
    """
    make_private()
    _check_target(home, target, keep)
    with tempfile.TemporaryDirectory(prefix="llmos-backup-") as folder:
        freshen()
        state, data = read_state(home)
        journal = Path(folder) / "journal"
        journal.write_bytes(data)
        if target.suffix == TAR:
            return _take_file(home, target, state, journal, show)
        return _take_to_folder(home, target, state, journal, show, keep=keep, is_quick=is_quick)


def _take_to_folder(
    home: Path, target: Path, state: Snapshot, journal: Path, show: Show, *, keep: int | None, is_quick: bool
) -> TakenBackup:
    with writing_folder(target) as vault:
        collector = Collector(home, vault, show, is_quick)
        collector.collect(state, journal)
        record = collector.record(time.time())
        verified = verify_objects(vault, collector.new, show)
        vault.seal(record)
        freed = vault.keep(keep) if keep else 0
    read = verified + (0 if is_quick else sum(collector.proven.values()))
    return TakenBackup(record, str(target), collector.new_bytes, read, freed)


def _take_file(home: Path, target: Path, state: Snapshot, journal: Path, show: Show) -> TakenBackup:
    with writing_file(target) as vault:
        collector = Collector(home, vault, show)
        collector.collect(state, journal)
        vault.seal(collector.record(time.time()))
        with reading(vault.aside) as reader:
            record = reader.record()
            verified = verify_objects(reader, record.objects, show)
        commit_file(vault, target)
    return TakenBackup(record, str(target), collector.new_bytes, verified)


def _check_target(home: Path, target: Path, keep: int | None) -> None:
    if not home.is_dir():
        raise BadInput(f"There is no home at {home}. Name it: LLMOS_HOME", key="home", value=str(home))
    if target.resolve().is_relative_to(home.resolve()):
        raise BadInput(f"{target} is inside the home {home}. Keep backups elsewhere", path=str(target))
    if keep is not None and (target.suffix == TAR or keep < 1):
        raise BadInput("--keep is for a folder of backups, and is at least 1", key="keep")
