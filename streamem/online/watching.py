"""What can be seen of a stream that is being learned, from any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamem.core.ports import Stream
from streamem.core.redaction import redacted
from streamem.online.follow import Learner

if TYPE_CHECKING:
    from streamem.online.live_files import LiveFiles
    from streamem.online.mini_batches import Tally


@dataclass(frozen=True)
class Watched:
    """A running call of `fit_stream`.

    Attributes
    ----------
    learner, stream, files : what learns, from what, and what is on disk
    came : what came since the call began: messages, records, and how many of these cannot be used
    """

    learner: Learner
    stream: Stream
    files: LiveFiles
    came: Tally

    @property
    def seconds_since_save(self) -> float:
        """Seconds since everything was saved, or since the call began."""
        return self.files.seconds_since_save

    @property
    def lag(self) -> int | None:
        """Messages (of a folder, files) that wait in the stream; None where nobody knows, or nobody answers."""
        places = self.learner.places().get(redacted(self.stream.name), {})
        try:
            return self.stream.lag({partition: where for partition, (where, _) in places.items()})
        except Exception:  # a broker that is away says so where the stream is read
            return None
