"""What the teaching text on AutoML states of DARTS and ENAS, with the word that each statement gets."""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.statement import Statement
from advanced_optimizers.experiments.studies.topic import Topic

TOPIC = Topic(
    title="Architecture search: the text's statements",
    algorithms={},
    statements=(
        Statement(
            key="N1",
            text="Search by gradient is 1,000 times faster than traditional search.",
            finding="The factor belongs to ENAS against NASNet (0.45 against 2,000 GPU days). DARTS' own Table 1 has "
            "1.5 to 4 GPU days for a search, and four searches are made before one is chosen.",
            word="wrong",
        ),
        Statement(
            key="N2",
            text="It is 1,000 times faster than random search.",
            finding="In DARTS' own Table 1 random search takes 4 GPU days, and so does the second-order search. A "
            "search that is faster at all must be better at equal cost, which is what runs decide.",
            claims=("darts-faster-than-random",),
            shown="08, the study",
        ),
        Statement(
            key="N3",
            text="It finds architectures that are better than hand-made ones.",
            finding="Against one hand-made cell, all 3x3 convolutions, in the same frame and trained alike.",
            claims=("darts-beats-handmade",),
            shown="08, the study",
        ),
        Statement(
            key="N4",
            text="It can search among operations of any type.",
            finding="Among those whose outputs can be added: equal shapes, and derivatives. Any other is refused by "
            "name.",
            word="wrong",
            shown="08, what cannot be mixed",
        ),
        Statement(
            key="N5",
            text="It works with large data sets.",
            finding="Ours are small. All operations are computed, so memory and time grow with their number.",
            word="not testable",
        ),
        Statement(
            key="N6",
            text="Eight operations are the recommended standard, more search in more detail.",
            finding="The paper has seven and none. What more of them bring was left out here, to stay within an hour.",
            word="not testable",
        ),
        Statement(
            key="N7",
            text="More epochs of search are more accurate (25 < 50 < 100 < 200).",
            finding="The literature on collapse says the opposite: with time, skips take over, and RobustDARTS stops "
            "early. Several lengths were left out here, to stay within an hour.",
            word="not testable",
        ),
        Statement(
            key="N8",
            text="A learning rate of 0.025 with Adam is recommended for DARTS.",
            finding="0.025 is the rate of the weights' SGD. Adam's, for the architecture, is 0.0003.",
            word="wrong",
        ),
        Statement(
            key="N9",
            text="The softmax weight of an operation is its importance.",
            finding="Decided by the rank correlation of the weight with what the loss rises by without the operation. "
            "What the mixture loses when it is made discrete is measured, too.",
            claims=("darts-weight-is-importance",),
            shown="08, the study",
        ),
        Statement(
            key="N10",
            text="Dilation widens the field without more weights; pooling is shift invariant; identity is a skip.",
            finding="The first and the last hold exactly. Pooling changes little under a shift, and not nothing.",
            word="supported with a limit",
            shown="08, operations",
        ),
        Statement(
            key="N11",
            text="train() switches deterministic behavior off and eval() on; no_grad makes validation faster.",
            finding="The modes switch dropout and the statistics of batch normalization, and nothing else. That "
            "no_grad saves time and memory is right.",
            word="imprecise",
        ),
        Statement(
            key="E1",
            text="A recurrent controller makes search efficient.",
            finding="On a table, with true rewards, a trained policy is compared with random search; with shared "
            "weights, a trained controller with a uniform one.",
            claims=("reinforce-beats-random-table", "enas-controller-efficient"),
            shown="08, the table; the study",
        ),
        Statement(
            key="E2",
            text="More nodes are better quality.",
            finding="No task or size is named, and with more nodes a cell has more parameters: another comparison.",
            word="not testable",
        ),
        Statement(
            key="E3",
            text="The LSTM takes the order of decisions into account.",
            finding="Only if it is fed its own choices, as ours is. The text's sketch feeds it fresh noise each time.",
            word="supported with a limit",
            shown="08, the controller",
        ),
        Statement(
            key="E4",
            text="The hidden state starts deterministically.",
            finding="At zero, as any LSTM of torch. What is sampled still differs from call to call.",
            word="supported",
        ),
        Statement(
            key="E5",
            text="Learned embeddings are an alternative input.",
            finding="They are the published input, not an alternative.",
            word="imprecise",
        ),
    ),
)
