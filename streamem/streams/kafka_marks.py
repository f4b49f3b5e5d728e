"""What a Kafka cluster holds of a topic, compared with what was saved of it.

Brokers differ in what they answer to an offset that they do not have: an error, as Kafka does, or nothing for ever. So
positions are compared with the first offset of each partition before they are read from, and with the last one that
fetches report while nothing comes. A topic that was deleted and made anew has another id, whatever its offsets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from streamem.core.errors import StreamError
from streamem.streams.kafka_lane import Lane

logger = logging.getLogger("streamem")

START_S = 10.0
"""For which a broker may take to answer before anything was read."""
ANSWER_S, SHORT_S = 5.0, 1.0
"""For which a cluster may take to tell the id of a topic, and its first offsets: where one was saved, and else."""

NO_ID = "A" * 22
"""The id of a topic, all zeros in base 64, of a broker that knows none."""
UNREAD = "records were deleted before they were read"
ENDED = "the topic was made anew, or its newest records were lost"
REMEDY = (
    "Restore them (and lengthen the topic's retention), start a new model, or go on with this one as with a new "
    "stream: another name= of the stream begins where start= says"
)


class Marks:
    """First and last offsets, and the id, of one topic.

    Parameters
    ----------
    kafka : the module confluent_kafka
    name : of the stream, for messages
    topic, settings : what to ask about, and how to reach the cluster
    """

    def __init__(self, kafka: Any, name: str, topic: str, settings: Mapping[str, Any]) -> None:
        self._kafka, self._name, self._topic = kafka, name, topic
        kept = {key: value for key, value in settings.items() if not key.endswith("_cb") or key == "oauth_cb"}
        self._settings = {**kept, "log_level": 2}  # else it would warn of each setting that is for consumers only
        self._heard = float("-inf")

    def identify(self, positions: Mapping[str, Any], metadata: Any) -> str | None:
        """The id of the topic, None where the cluster does not tell.

        Parameters
        ----------
        positions, metadata : what was saved, and what the cluster says of itself: its controller tells

        Raises
        ------
        StreamError : positions were saved of a topic with another id
        """
        if metadata.controller_id not in metadata.brokers:  # as in librdkafka's mock, where nobody says who it is
            return None
        saved = {position["topic"] for position in positions.values() if "topic" in position}
        admin = self._kafka.admin.AdminClient(self._settings, logger=logger)
        topics = self._kafka.TopicCollection([self._topic])
        asked = admin.describe_topics(topics, request_timeout=ANSWER_S if saved else SHORT_S)
        described = self._answer(asked[self._topic])
        found = None if described is None else str(described.topic_id)
        if found in (None, NO_ID):
            return None
        if others := sorted(saved - {found}):
            raise StreamError(
                f"{self._name}: the saved positions are of another topic of this name (id {others[0]}, now {found}): "
                f"it was deleted and made anew. {REMEDY}"
            )
        return found

    def require_kept(self, consumer: Any, lanes: Iterable[Lane]) -> None:
        """Refuse to start at offsets before the first that the topic holds."""
        begun = {lane.partition: lane.offset for lane in lanes if lane.offset is not None}
        for number, low in self._lows(list(begun)).items():
            if low > begun[number]:
                raise StreamError(self._gone(number, begun[number], self._there(consumer, number), UNREAD))

    def hear(self, consumer: Any, lanes: Iterable[Lane]) -> None:
        """Tell the lanes what their partitions hold, once a second, in the thread that reads.

        Raises
        ------
        StreamError : a lane waits for messages from behind the end of its partition, which no broker will send
        """
        lanes = list(lanes)
        if time.monotonic() < self._heard + SHORT_S and all(lane.high >= 0 for lane in lanes):
            return
        self._heard = time.monotonic()
        for lane in lanes:
            lane.hear(*consumer.get_watermark_offsets(self._place(lane.partition), cached=True))
            if lane.waiting or lane.offset is None or not 0 <= lane.high < lane.offset:
                continue
            # What was fetched last may be older than this lane, and what is asked for now may be wrong (in Tansu).
            if self._high(consumer, lane.partition) < lane.offset:
                low = self._lows([lane.partition]).get(lane.partition, 0)
                raise StreamError(self._gone(lane.partition, lane.offset, _held(low, lane.high), ENDED))

    def lost(self, consumer: Any, message: Any) -> str:
        """What to tell of an event with which a broker refuses an offset."""
        number, why = message.partition(), f"{message.error().str()}: {UNREAD}, or {ENDED}"
        return self._gone(number, message.offset(), self._there(consumer, number), why)

    def _gone(self, number: int, offset: int, there: str, why: str) -> str:
        return f"{self._name}: partition {number} was to be read from offset {offset}, {there}: {why}. {REMEDY}"

    def _lows(self, numbers: list[int]) -> dict[int, int]:
        """The first offset that each partition holds, of those of which the cluster tells."""
        if not numbers:
            return {}
        admin = self._kafka.admin.AdminClient(self._settings, logger=logger)
        earliest = self._kafka.admin.OffsetSpec.earliest()
        asked = admin.list_offsets({self._place(n): earliest for n in numbers}, request_timeout=ANSWER_S)
        answers = {place.partition: self._answer(future) for place, future in asked.items()}
        return {number: answer.offset for number, answer in answers.items() if answer is not None}

    def _high(self, consumer: Any, number: int) -> float:
        """The end of a partition as its leader tells it, infinity if it does not."""
        try:
            return float(consumer.get_watermark_offsets(self._place(number), timeout=START_S)[1])
        except self._kafka.KafkaException:
            return float("inf")

    def _there(self, consumer: Any, number: int) -> str:
        try:
            return _held(*consumer.get_watermark_offsets(self._place(number), timeout=START_S))
        except self._kafka.KafkaException:
            return "which ones are there could not be found out"

    def _answer(self, future: Any) -> Any:
        try:
            return future.result()
        except self._kafka.KafkaException as error:
            logger.debug("%s: the cluster does not tell: %s", self._name, error.args[0].str())
            return None

    def _place(self, number: int) -> Any:
        return self._kafka.TopicPartition(self._topic, number)


def _held(low: int, high: int) -> str:
    """In words, which offsets a partition holds."""
    return f"it holds {low} to {high - 1}" if high > low else f"it is empty, the next one will be {high}"
