"""Compiled E-steps over blocks of rows. Kernels know no family and no model.

This module is the façade of all compiled functions of the room: write `kernels.mixture_pass(...)`, and Numba, which
takes a quarter of a second to import, is imported at the first such call, not with the caller. For small work
(`core.small_work`) the lookup gives those of `kernels.plain`, in NumPy, where there are such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamem.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from streamem.kernels.block_passes import densities_pass, mixture_pass, statistics_pass
    from streamem.kernels.chains.age_logs import age_log_backward, age_log_forward, age_log_recursions
    from streamem.kernels.chains.age_paths import best_age_rest, best_age_scores, best_ages
    from streamem.kernels.chains.age_recursions import age_recursions
    from streamem.kernels.chains.driven import (
        driven_alphas,
        driven_betas,
        driven_climb,
        driven_scores,
        driven_trace,
    )
    from streamem.kernels.chains.forward_backward import recursions
    from streamem.kernels.chains.gaussian_chains import gaussian_filter, gaussian_information, gaussian_states
    from streamem.kernels.chains.limits import FLOOR
    from streamem.kernels.chains.log_recursions import log_backward, log_forward, log_scores
    from streamem.kernels.chains.viterbi import paths
    from streamem.kernels.features.anchored_rows import load_anchored
    from streamem.kernels.features.feature_products import accumulate_posterior, multiply_features
    from streamem.kernels.features.heavy_tails_steps import bend, weigh
    from streamem.kernels.features.tied_pass import add_moments
    from streamem.kernels.features.transform_fill import fill_features, first_outside
    from streamem.kernels.incomplete.correction_steps import add_corrections, correct_log_prob
    from streamem.kernels.incomplete.matrix_steps import add_incomplete, fill_incomplete, incomplete_distances
    from streamem.kernels.incomplete.variance_steps import (
        add_incomplete_by_variances,
        fill_incomplete_by_variances,
        incomplete_distances_by_variances,
        incomplete_log_prob_by_variances,
    )
    from streamem.kernels.nested.nested_mixtures_pass import divided, joined
    from streamem.kernels.pairs.active_pairs import load_rows
    from streamem.kernels.pairs.apart_pass import (
        accumulate_apart_rows,
        add_pairs,
        apart_densities,
        apart_pass,
        log_prob_of_all,
    )
    from streamem.kernels.pairs.screened_pass import screened_pass
    from streamem.kernels.pairs.sketched_pass import sketched_pass
    from streamem.kernels.tables.count_checks import first_beyond, log_factorials
    from streamem.kernels.tables.log_factorials import LOG_FACTORIALS
    from streamem.kernels.tables.table_steps import add_at, look_up, pair_places, places_of

__all__ = [
    "FLOOR",
    "LOG_FACTORIALS",
    "accumulate_apart_rows",
    "accumulate_posterior",
    "add_at",
    "add_corrections",
    "add_incomplete",
    "add_incomplete_by_variances",
    "add_moments",
    "add_pairs",
    "age_log_backward",
    "age_log_forward",
    "age_log_recursions",
    "age_recursions",
    "apart_densities",
    "apart_pass",
    "bend",
    "best_age_rest",
    "best_age_scores",
    "best_ages",
    "correct_log_prob",
    "densities_pass",
    "divided",
    "driven_alphas",
    "driven_betas",
    "driven_climb",
    "driven_scores",
    "driven_trace",
    "fill_features",
    "fill_incomplete",
    "fill_incomplete_by_variances",
    "first_beyond",
    "first_outside",
    "gaussian_filter",
    "gaussian_information",
    "gaussian_states",
    "incomplete_distances",
    "incomplete_distances_by_variances",
    "incomplete_log_prob_by_variances",
    "joined",
    "load_anchored",
    "load_rows",
    "log_backward",
    "log_factorials",
    "log_forward",
    "log_prob_of_all",
    "log_scores",
    "look_up",
    "mixture_pass",
    "multiply_features",
    "pair_places",
    "paths",
    "places_of",
    "recursions",
    "screened_pass",
    "sketched_pass",
    "statistics_pass",
    "weigh",
]

_HOMES = {
    "densities_pass": "streamem.kernels.block_passes",
    "mixture_pass": "streamem.kernels.block_passes",
    "statistics_pass": "streamem.kernels.block_passes",
    "FLOOR": "streamem.kernels.chains.limits",
    "driven_alphas": "streamem.kernels.chains.driven",
    "driven_betas": "streamem.kernels.chains.driven",
    "driven_climb": "streamem.kernels.chains.driven",
    "driven_scores": "streamem.kernels.chains.driven",
    "driven_trace": "streamem.kernels.chains.driven",
    "recursions": "streamem.kernels.chains.forward_backward",
    "age_log_backward": "streamem.kernels.chains.age_logs",
    "age_log_forward": "streamem.kernels.chains.age_logs",
    "age_log_recursions": "streamem.kernels.chains.age_logs",
    "best_age_rest": "streamem.kernels.chains.age_paths",
    "best_age_scores": "streamem.kernels.chains.age_paths",
    "best_ages": "streamem.kernels.chains.age_paths",
    "age_recursions": "streamem.kernels.chains.age_recursions",
    "gaussian_filter": "streamem.kernels.chains.gaussian_chains",
    "gaussian_information": "streamem.kernels.chains.gaussian_chains",
    "gaussian_states": "streamem.kernels.chains.gaussian_chains",
    "log_backward": "streamem.kernels.chains.log_recursions",
    "log_forward": "streamem.kernels.chains.log_recursions",
    "log_scores": "streamem.kernels.chains.log_recursions",
    "paths": "streamem.kernels.chains.viterbi",
    "load_anchored": "streamem.kernels.features.anchored_rows",
    "accumulate_posterior": "streamem.kernels.features.feature_products",
    "multiply_features": "streamem.kernels.features.feature_products",
    "bend": "streamem.kernels.features.heavy_tails_steps",
    "weigh": "streamem.kernels.features.heavy_tails_steps",
    "add_moments": "streamem.kernels.features.tied_pass",
    "add_corrections": "streamem.kernels.incomplete.correction_steps",
    "correct_log_prob": "streamem.kernels.incomplete.correction_steps",
    "add_incomplete": "streamem.kernels.incomplete.matrix_steps",
    "fill_incomplete": "streamem.kernels.incomplete.matrix_steps",
    "incomplete_distances": "streamem.kernels.incomplete.matrix_steps",
    "incomplete_distances_by_variances": "streamem.kernels.incomplete.variance_steps",
    "add_incomplete_by_variances": "streamem.kernels.incomplete.variance_steps",
    "fill_incomplete_by_variances": "streamem.kernels.incomplete.variance_steps",
    "incomplete_log_prob_by_variances": "streamem.kernels.incomplete.variance_steps",
    "fill_features": "streamem.kernels.features.transform_fill",
    "first_outside": "streamem.kernels.features.transform_fill",
    "divided": "streamem.kernels.nested.nested_mixtures_pass",
    "joined": "streamem.kernels.nested.nested_mixtures_pass",
    "load_rows": "streamem.kernels.pairs.active_pairs",
    "accumulate_apart_rows": "streamem.kernels.pairs.apart_pass",
    "add_pairs": "streamem.kernels.pairs.apart_pass",
    "apart_densities": "streamem.kernels.pairs.apart_pass",
    "apart_pass": "streamem.kernels.pairs.apart_pass",
    "log_prob_of_all": "streamem.kernels.pairs.apart_pass",
    "screened_pass": "streamem.kernels.pairs.screened_pass",
    "sketched_pass": "streamem.kernels.pairs.sketched_pass",
    "LOG_FACTORIALS": "streamem.kernels.tables.log_factorials",
    "first_beyond": "streamem.kernels.tables.count_checks",
    "log_factorials": "streamem.kernels.tables.count_checks",
    "add_at": "streamem.kernels.tables.table_steps",
    "look_up": "streamem.kernels.tables.table_steps",
    "pair_places": "streamem.kernels.tables.table_steps",
    "places_of": "streamem.kernels.tables.table_steps",
}

_NAMES_OF_SMALL = {
    "apart": (
        "accumulate_apart_rows",
        "add_pairs",
        "apart_densities",
        "apart_pass",
        "load_rows",
        "log_prob_of_all",
    ),
    "chains": ("log_backward", "log_forward", "log_scores", "paths", "recursions"),
    "driven": (
        "driven_alphas",
        "driven_betas",
        "driven_climb",
        "driven_scores",
        "driven_trace",
    ),
    "features": ("accumulate_posterior", "add_moments", "load_anchored", "multiply_features"),
    "gaussian_chains": ("gaussian_filter", "gaussian_information", "gaussian_states"),
    "nested": ("divided", "joined"),
    "passes": ("densities_pass", "mixture_pass", "statistics_pass"),
    "tables": ("add_at", "first_beyond", "log_factorials", "look_up", "pair_places", "places_of"),
    "tails": ("bend", "weigh"),
    "transforms": ("fill_features", "first_outside"),
}
"""What small work finds in NumPy, by the module of `kernels.plain`; what is not here is compiled for it too."""

_HOMES_OF_SMALL = {
    name: f"streamem.kernels.plain.{module}" for module, names in _NAMES_OF_SMALL.items() for name in names
}

if not TYPE_CHECKING:  # else every name would be known to the type checker
    __getattr__ = lazy_names(__name__, _HOMES, _HOMES_OF_SMALL)
