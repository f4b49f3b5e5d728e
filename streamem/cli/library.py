"""Parts of the library, imported by the command that needs them: help and errors come at once.

Write `library.load_model(...)` with `from streamem.cli import library`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamem.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from pyarrow.parquet import write_table

    from streamem import (
        GMMHMM,
        PPCA,
        Address,
        BernoulliHMM,
        CategoricalHMM,
        DawidSkene,
        FactorAnalysis,
        GaussianHMM,
        GaussianMixture,
        ItemResponse,
        LatentClass,
        LinearGaussianChain,
        Mixture,
        MixtureOfFactorAnalyzers,
        MixtureOfRegressions,
        MixtureProportions,
        PoissonHMM,
        ReadOptions,
        RecordLinkage,
        StudentTMixture,
        open_sequences,
        open_source,
        select,
    )
    from streamem.algorithms import DriftAlarm
    from streamem.cli.demo import run_demo
    from streamem.cli.page import page_of
    from streamem.cli.warming import warm
    from streamem.core.archive import generations
    from streamem.core.archive_reading import is_there, place_of
    from streamem.core.stored_objects import put, require_writable, size_of
    from streamem.estimators.family_words import columns_of_text
    from streamem.estimators.followers import followers_of
    from streamem.estimators.in_html import components_in_html
    from streamem.estimators.loading import load_model, load_newest
    from streamem.machine.checked_cache import folder_of_code
    from streamem.plots.history import history_table
    from streamem.running.memory import Budget
    from streamem.running.report import events_in_words
    from streamem.streams.byte_stream import ByteStream
    from streamem.streams.folder import FolderStream
    from streamem.streams.kafka import KafkaStream
    from streamem.streams.opening import is_broker, open_broker
    from streamem.streams.redis import RedisStream
    from streamem.streams.registry import RegistryDecoder

__all__ = [
    "GMMHMM",
    "PPCA",
    "Address",
    "BernoulliHMM",
    "Budget",
    "ByteStream",
    "CategoricalHMM",
    "DawidSkene",
    "DriftAlarm",
    "FactorAnalysis",
    "FolderStream",
    "GaussianHMM",
    "GaussianMixture",
    "ItemResponse",
    "KafkaStream",
    "LatentClass",
    "LinearGaussianChain",
    "Mixture",
    "MixtureOfFactorAnalyzers",
    "MixtureOfRegressions",
    "MixtureProportions",
    "PoissonHMM",
    "ReadOptions",
    "RecordLinkage",
    "RedisStream",
    "RegistryDecoder",
    "StudentTMixture",
    "columns_of_text",
    "components_in_html",
    "events_in_words",
    "folder_of_code",
    "followers_of",
    "generations",
    "history_table",
    "is_broker",
    "is_there",
    "load_model",
    "load_newest",
    "open_broker",
    "open_sequences",
    "open_source",
    "page_of",
    "place_of",
    "put",
    "require_writable",
    "run_demo",
    "select",
    "size_of",
    "warm",
    "write_table",
]

_HOMES = {
    "FactorAnalysis": "streamem",
    "PPCA": "streamem",
    "MixtureOfFactorAnalyzers": "streamem",
    "MixtureOfRegressions": "streamem",
    "GMMHMM": "streamem",
    "Address": "streamem",
    "BernoulliHMM": "streamem",
    "CategoricalHMM": "streamem",
    "DawidSkene": "streamem",
    "GaussianHMM": "streamem",
    "GaussianMixture": "streamem",
    "ItemResponse": "streamem",
    "LatentClass": "streamem",
    "LinearGaussianChain": "streamem",
    "Mixture": "streamem",
    "MixtureProportions": "streamem",
    "PoissonHMM": "streamem",
    "ReadOptions": "streamem",
    "RecordLinkage": "streamem",
    "StudentTMixture": "streamem",
    "open_sequences": "streamem",
    "open_source": "streamem",
    "select": "streamem",
    "DriftAlarm": "streamem.algorithms",
    "run_demo": "streamem.cli.demo",
    "page_of": "streamem.cli.page",
    "warm": "streamem.cli.warming",
    "folder_of_code": "streamem.machine.checked_cache",
    "followers_of": "streamem.estimators.followers",
    "components_in_html": "streamem.estimators.in_html",
    "history_table": "streamem.plots.history",
    "events_in_words": "streamem.running.report",
    "columns_of_text": "streamem.estimators.family_words",
    "load_model": "streamem.estimators.loading",
    "load_newest": "streamem.estimators.loading",
    "Budget": "streamem.running.memory",
    "ByteStream": "streamem.streams.byte_stream",
    "FolderStream": "streamem.streams.folder",
    "KafkaStream": "streamem.streams.kafka",
    "RedisStream": "streamem.streams.redis",
    "is_broker": "streamem.streams.opening",
    "open_broker": "streamem.streams.opening",
    "generations": "streamem.core.archive",
    "is_there": "streamem.core.archive_reading",
    "place_of": "streamem.core.archive_reading",
    "RegistryDecoder": "streamem.streams.registry",
    "put": "streamem.core.stored_objects",
    "require_writable": "streamem.core.stored_objects",
    "size_of": "streamem.core.stored_objects",
    "write_table": "pyarrow.parquet",
}

if not TYPE_CHECKING:  # else every name would be known to the type checker
    __getattr__ = lazy_names(__name__, _HOMES)
