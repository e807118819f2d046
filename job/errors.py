"""The errors a user can meet; one exit code per branch.

    ThawError
    ├── JobError              2  the job file, the command line, or the model that the job file names
    ├── DataError             3  the labelled examples
    ├── StorageError          4  storage or network, after retries
    │   ├── ObjectMissing        the bucket or the object does not exist
    │   ├── AccessDenied         the credentials are missing or not allowed to do this
    │   ├── WriteConflict        a conditional write was refused: someone else wrote first
    │   ├── BrokenDocument       a document of a run is not what was written there
    │   ├── CorruptFeatures      a stored feature is not what was written: it is computed again
    │   ├── CorruptCheckpoint    a checkpoint is not what can be read here: the one before it is used
    │   └── Superseded           another attempt has this run
    │       └── Replaced         another group of this attempt's workers trains
    ├── TrainingError         5  head not converged, nothing to resume from
    │   └── NotFinite            the loss or the weights
    ├── ClusterError          6  Ray or Kubernetes
    ├── LimitReached          7  `limits`: what is done is kept, and running again with a higher one goes on from it
    └── Interrupted         143  SIGTERM: all that is done is kept, and running again goes on from it

A message says what was wrong, where, and what to do, in one or two sentences.
"""


def headline(error: BaseException) -> str:
    """An exception's type and the first line of its text, for where that is all that there is room for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")


class ThawError(Exception):
    """Base of every error that is shown to a user without a traceback."""

    exit_code = 1


class JobError(ThawError):
    exit_code = 2


class DataError(ThawError):
    exit_code = 3


class StorageError(ThawError):
    exit_code = 4


class ObjectMissing(StorageError):
    pass


class BrokenDocument(StorageError):
    """A document in the store is not what was written there."""


class AccessDenied(StorageError):
    pass


class WriteConflict(StorageError):
    pass


class CorruptFeatures(StorageError):
    def __init__(self, text: str, featurizer: str, file: str) -> None:
        super().__init__(text, featurizer, file)
        self.text, self.featurizer, self.file = text, featurizer, file

    def __str__(self) -> str:
        return self.text


class CorruptCheckpoint(StorageError):
    pass


class Superseded(StorageError):
    pass


class Replaced(Superseded):
    pass


class TrainingError(ThawError):
    exit_code = 5


class NotFinite(TrainingError):
    pass


class ClusterError(ThawError):
    exit_code = 6


class LimitReached(ThawError):
    exit_code = 7


class Interrupted(ThawError):
    exit_code = 143


def exit_code_of(error: BaseException) -> int:
    """What the command line ends with after this error; the system's own errors are those of a disk or a network."""
    if isinstance(error, ThawError):
        return error.exit_code
    return StorageError.exit_code if isinstance(error, OSError) else ThawError.exit_code


def nearest(word: str, known: "list[str] | tuple[str, ...]", quote: str = "'") -> str:
    """A phrase that names the known word nearest to `word`: " (nearest: 'vgg19')", or "" if none is near."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (nearest: {quote}{matches[0]}{quote})" if matches else ""
