"""The claims on two modalities, and the rules that decide them: the text's (V1 to V3, X1), and ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, at_the_end, each, improvement_rule, margin_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.evidence.stated import all_of, value_rule, value_within

TEXT, OURS = "text on AutoML", "our question"

MATCHING, PARITY, RETRIEVAL = "mnist-matching-20000", "mnist-parity-20000", "mnist-retrieval-20000"
_FEWER = ("mnist-matching-2000", "mnist-matching-500")
# The largest differences that do not matter: about three standard errors of a test set of 10,000, and of 2,000 queries.
MARGINS = {MATCHING: 0.01, **dict.fromkeys(_FEWER, 0.01), PARITY: 0.01, RETRIEVAL: 0.03}
_MARGIN_WORDS = "1 point"

# On matching: what joint models must reach, and how near to the base rate a score must be that says nothing.
_REACHED, _NEAR = 0.78, 0.02
# What a contrastive loss must reach in recall at 1; a uniform guess among the captions has 0.4 %.
_RECALL = 0.5

_UNIMODAL = ("fusion-image", "fusion-text")


def against_each(algorithms: tuple[str, ...], baselines: tuple[str, ...]) -> tuple[Comparison, ...]:
    """Every algorithm against every baseline on matching."""
    pairs = [
        each({algorithm: baseline}, (MATCHING,), margins=MARGINS) for algorithm in algorithms for baseline in baselines
    ]
    return tuple(comparison for found in pairs for comparison in found)


def joint_alone(data: RunData, *, joint: tuple[str, ...], alone: tuple[str, ...]) -> Verdict:
    """Decides whether joint models solve a task of which the others know nothing.

    Supported: each joint model's interval of accuracy lies at or above 78 %, and each other's interval of the accuracy
    above the base rate within 2 points of zero. Not supported: an interval lies outside, on one side. Otherwise
    inconclusive.

    Args:
        data: The runs of one study.
        joint: The joint models.
        alone: The models that see one modality, or see both without joining them.
    """
    verdicts = [
        *(
            value_within(data, metric="test_accuracy", task=MATCHING, algorithm=a, low=_REACHED, high=1.0)
            for a in joint
        ),
        *(
            value_within(data, metric="over_base_rate", task=MATCHING, algorithm=a, low=-_NEAR, high=_NEAR)
            for a in alone
        ),
    ]
    return all_of(verdicts)


def _compared(
    key: str,
    short: str,
    text: str,
    source: str,
    compared: str,
    comparisons: tuple[Comparison, ...],
    margin: str,
    study: str = "multimodal",
) -> Claim:
    return Claim(
        key=key,
        method="Two modalities",
        short=short,
        study=study,
        text=text,
        source=source,
        rule=at_the_end(improvement_rule("test accuracy", compared, margin), "step"),
        decide=partial(compare_accuracy, comparisons=comparisons),
    )


def _on_sizes(pairs: Mapping[str, str]) -> tuple[Comparison, ...]:
    return each(pairs, (MATCHING, *_FEWER), margins=MARGINS)


CLAIMS = (
    _compared(
        "modal-both",
        "V1: images and texts at once",
        "V1. A vision-language model works with images and text simultaneously.",
        TEXT,
        "on matching: concatenation against the image alone and against the caption alone, with as many parameters",
        against_each(("fusion-intermediate",), _UNIMODAL),
        _MARGIN_WORDS,
    ),
    _compared(
        "modal-methods",
        "V2: early, late, cross-modal",
        "V2. Early, late and cross-modal fusion are the methods of joining modalities.",
        TEXT,
        "on matching: early fusion, late fusion and cross-attention, each against the image alone and against the "
        "caption alone, with as many parameters",
        against_each(("fusion-early", "fusion-late", "fusion-attention"), _UNIMODAL),
        _MARGIN_WORDS,
    ),
    Claim(
        key="modal-complex",
        method="Two modalities",
        short="V3: complex tasks",
        study="multimodal",
        text="V3. Multimodal models solve complex tasks. (Read as: tasks of which no modality alone says anything.)",
        source=TEXT,
        rule="On matching, "
        + value_rule(
            "test accuracy of concatenation, product and cross-attention, and accuracy above the base rate of the "
            "image alone, the caption alone and late fusion",
            f"at or above {100 * _REACHED:g} % for the former, and within {100 * _NEAR:g} points of zero for the "
            "latter",
        ),
        decide=partial(
            joint_alone,
            joint=("fusion-intermediate", "fusion-product", "fusion-attention"),
            alone=(*_UNIMODAL, "fusion-late"),
        ),
    ),
    _compared(
        "modal-attention",
        "X1: mutual attention",
        "X1. Mutual attention between modalities is a method of fusion.",
        TEXT,
        "on matching: cross-attention against the image alone, the caption alone and late fusion, with as many "
        "parameters",
        against_each(("fusion-attention",), (*_UNIMODAL, "fusion-late")),
        _MARGIN_WORDS,
    ),
    _compared(
        "modal-attention-better",
        "attention over concatenation",
        "Cross-attention is better than concatenation with as many parameters.",
        OURS,
        "on matching with 20,000, 2,000 and 500 images: cross-attention against concatenation, with as many parameters "
        "and steps",
        _on_sizes({"fusion-attention": "fusion-intermediate"}),
        _MARGIN_WORDS,
        "multimodal-images",
    ),
    _compared(
        "modal-attention-time",
        "attention at equal time",
        "Cross-attention is better than concatenation that trains as long.",
        OURS,
        "on matching with 20,000 images: cross-attention against concatenation with four times as many steps",
        against_each(("fusion-attention",), ("fusion-longer",)),
        _MARGIN_WORDS,
    ),
    Claim(
        key="modal-late-additive",
        method="Two modalities",
        short="late where evidence adds up",
        study="multimodal-parity",
        text="Where the evidence of two modalities adds up, late fusion is as good as concatenation.",
        source=OURS,
        rule=at_the_end(
            margin_rule(
                "on parity, where a noisy image and an unreliable caption both speak for the digit: late fusion "
                "against concatenation",
                MARGINS[PARITY],
                "about three standard errors of the test set",
            ),
            "step",
        ),
        decide=partial(
            compare_margin, margin=MARGINS[PARITY], comparisons=each({"fusion-late": "fusion-intermediate"}, (PARITY,))
        ),
    ),
    _compared(
        "modal-late-better",
        "late over one modality",
        "There, late fusion is better than each modality alone.",
        OURS,
        "on parity: late fusion against the image alone and against the caption alone",
        tuple(
            comparison for alone in _UNIMODAL for comparison in each({"fusion-late": alone}, (PARITY,), margins=MARGINS)
        ),
        _MARGIN_WORDS,
        "multimodal-parity",
    ),
    Claim(
        key="modal-recall",
        method="Two modalities",
        short="contrastive recall at 1",
        study="multimodal-retrieval",
        text="A contrastive loss finds the caption of an image at the first try in half of the cases.",
        source=OURS,
        rule=value_rule(
            "Recall at 1 of 2,000 test images among the captions of the test set (about 250), after contrastive "
            "training",
            f"at or above {100 * _RECALL:g} %",
        ),
        decide=partial(
            value_within, metric="test_accuracy", task=RETRIEVAL, algorithm="fusion-contrastive", low=_RECALL, high=1.0
        ),
    ),
    _compared(
        "modal-contrastive",
        "contrastive over pairs",
        "A contrastive loss finds captions better than training on pairs.",
        OURS,
        "which on retrieval is recall at 1: contrastive training against a product and a concatenation that were "
        "trained to tell right from wrong pairs, and against contrastive training on shuffled captions",
        tuple(
            comparison
            for other in ("fusion-product", "fusion-intermediate", "fusion-shuffled")
            for comparison in each({"fusion-contrastive": other}, (RETRIEVAL,), margins=MARGINS)
        ),
        "3 points",
        "multimodal-retrieval",
    ),
)
