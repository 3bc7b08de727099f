"""Text as an output, without a task around it: sides and their vocabularies, worth and measures of given texts."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from rlseq_envs.rewards.text import TextRewards
from rlseq_envs.settings.translation import TranslationSettings
from rlseq_envs.task import TextPairs
from rlseq_envs.text.output import TextOutput
from rlseq_envs.text.storage import TextRows
from rlseq_envs.text.vocabulary import train_vocabulary

TEXTS = ["a man sleeps", "Two dogs run", "a dog and a man"]
SETTINGS = TranslationSettings(units="word", reward={"chrf": 2.0, "gleu": 0.5}, metrics=("BLEU", "chrF"))


def learn(texts=TEXTS):
    return train_vocabulary([TextRows.gather(texts)], 100, "word", "bpe")


@pytest.mark.parametrize("sides", [("target",), ("source", "target")])
@pytest.mark.parametrize("shared", [True, False])
def test_each_side_gets_its_vocabulary_back_and_nothing_is_learnt_again(sides, shared, tmp_path):
    one = learn()
    made = {side: one if shared else learn([*TEXTS, side]) for side in sides}
    output = TextOutput(SETTINGS, lambda: made, None, sides)
    output.save(tmp_path, "pictures")
    assert json.loads((tmp_path / "vocabulary.json").read_text()).keys() == {"corpus", "units", "lowercase", *sides}
    again = TextOutput(SETTINGS, pytest.fail, tmp_path, sides)
    assert again.corpus == "pictures" and again.signature == output.signature
    assert {side: vocabulary.pieces for side, vocabulary in again.vocabularies.items()} == {
        side: vocabulary.pieces for side, vocabulary in made.items()
    }
    assert len({*map(id, again.vocabularies.values())}) == (1 if shared else len(sides))
    encoded = again.vocabulary.encode(TEXTS).padded(np.arange(3))
    assert again.decode(*encoded) == TEXTS


def test_artifacts_that_lack_a_side_are_refused(tmp_path):
    TextOutput(SETTINGS, lambda: {"target": learn()}).save(tmp_path, "files")
    with pytest.raises(ValueError, match=r"vocabulary\.json: cannot be read.*source"):
        TextOutput(SETTINGS, pytest.fail, tmp_path, ("source", "target"))


def test_texts_are_worth_the_weighted_sum_and_measured_by_sacrebleu():
    output = TextOutput(SETTINGS, pytest.fail)
    pairs = TextPairs(["a man runs", "Two dogs", "a dog"], [TEXTS, ["he sleeps", "dogs run", "man and dog"]])
    single = TextRewards(SETTINGS)(("chrf", "gleu"), pairs.hypotheses, pairs.references)
    reward = output.reward(pairs, np.arange(3))
    np.testing.assert_allclose(reward.total, 2 * single["chrf"] + 0.5 * single["gleu"])
    assert reward.components.keys() == {"sentence_chrf", "sentence_gleu"}
    measured = output.corpus_metrics(pairs)
    assert (
        measured.keys() == {"BLEU", "chrF"}
        and measured["chrF"] == CHRF().corpus_score(pairs.hypotheses, pairs.references).score
    )


def test_texts_without_references_get_the_rewards_that_read_none():
    output = TextOutput(TranslationSettings(reward={"neg_repetition": 1.0}, repetition_order=1), pytest.fail)
    total = output.reward(TextPairs(["a a", "a b"], []), np.arange(2)).total
    assert total[0] < total[1] == 0
