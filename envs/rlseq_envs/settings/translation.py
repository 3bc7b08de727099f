"""The settings of the translation task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from rlseq_envs.settings.rules import Directory, File, Files, Fraction, Instances, Seed, Tokens
from rlseq_envs.settings.text import NEED_REFERENCES, TextSettings
from rlseq_envs.spaces import Choices, Space, Tokenizer

TEXT = "text"  # the field of a source
SPLITS = ("train", "validation", "test", "rl")
_NEEDED = ("train", "validation")  # of a corpus in files


@dataclass(frozen=True, kw_only=True)
class TranslationSettings(TextSettings):
    """A sentence in, a sentence out."""

    env_id: ClassVar[str] = "rlseq/Translation-v0"

    type: Literal["translation"] = "translation"
    # cldr: made from Unicode's locale data, nothing to download; default: files if any are named, else cldr
    corpus: Literal["files", "cldr"] | None = None
    train_source: File = None  # plain text or .gz, one sentence a line
    train_target: Files = None  # several files are several references; the first is trained on, all are rewarded
    validation_source: File = None  # sentences to validate on
    validation_target: Files = None  # their references
    test_source: File = None  # sentences to evaluate on
    test_target: Files = None  # their references
    rl_source: File = None  # sources that rl is trained on; default: those of cross-entropy
    rl_target: Files = None  # their references; without any, only rewards that read none can be used
    cldr_source_locale: str = "en"  # a locale of Unicode's data, such as en or pt_BR
    cldr_target_locale: str = "de"  # likewise
    cldr_sizes: tuple[Instances, Instances, Instances] = (20000, 1000, 1000)  # train, validation, test
    subword_dropout: Fraction = 0.0  # of merges, anew each time a pair is trained on (BPE-dropout); for bpe, in mle
    shared_vocabulary: bool = True  # one vocabulary for both languages
    # The directory of a pretrained model, whose tokenizer cuts both sides; default: a vocabulary is learnt.
    tokenizer: Directory = None
    source_prefix: str = ""  # what a pretrained model reads before each source, such as "translate English to German: "
    max_source_length: Tokens = 100  # tokens of a source, END included
    seed: Seed = 0  # of the made corpus

    def conflicts(self) -> Iterator[str]:
        """See the base class."""
        yield from super().conflicts()
        if self.subword_dropout and (self.units, self.subword_model) != ("subword", "bpe"):
            yield "subword_dropout leaves out merges: it needs units 'subword' and subword_model 'bpe'"
        if self.tokenizer:
            yield from self._faults_with_a_tokenizer()
        elif self.source_prefix:
            yield "source_prefix is read by a pretrained model: give its tokenizer, or leave source_prefix out"
        yield from self._faults_of_files()

    def _faults_with_a_tokenizer(self) -> Iterator[str]:
        for key in ("units", "vocabulary_size", "subword_model", "subword_dropout", "shared_vocabulary"):
            value = getattr(self, key)
            if value != type(self).__dataclass_fields__[key].default:
                yield f"{key} is {value!r}, but tokenizer brings its own vocabulary: leave {key} out"

    def _faults_of_files(self) -> Iterator[str]:
        given = self.named_files
        if self.corpus == "cldr" and given:
            yield f"{', '.join(given)} given, but corpus is 'cldr': set corpus to 'files'"
        needed = [f"{split}_{side}" for split in _NEEDED for side in ("source", "target")]
        missing = [key for key in needed if key not in given]
        if missing and (self.corpus == "files" or len(missing) < len(needed)):
            yield f"corpus is 'files' and {', '.join(missing)} is not given"
        if bool(self.test_source) != bool(self.test_target):
            yield "test_source and test_target must be given together"
        if self.rl_target and not self.rl_source:
            yield "rl_source and rl_target must be given together"
        reading = [name for name in self.reward if name in NEED_REFERENCES]
        if self.rl_source and not self.rl_target and reading:
            yield f"the reward {', '.join(reading)} reads references and rl_source has none: give rl_target"

    @property
    def named_files(self) -> list[str]:
        """The keys that name files here."""
        return [key for key in self.file_keys() if getattr(self, key)]

    def outline(self) -> tuple[Mapping[str, Space], Choices]:
        """Text, and tokens of the same vocabulary or of another one."""
        same_as = TEXT if self.shared_vocabulary else None
        tokenizer = Tokenizer(self.tokenizer) if self.tokenizer else None
        choices = Choices(self.max_length, 0, same_as=same_as, tokenizer=tokenizer)
        return {TEXT: Space.of_tokens(0, self.max_source_length)}, choices

    @property
    def trains_rl_on_others(self) -> bool:
        """If sources for rl are named."""
        return bool(self.rl_source)

    def source_file(self, split: str) -> str | None:
        """The split's source file."""
        path: str | None = getattr(self, f"{split}_source")
        return path

    def target_files(self, split: str) -> tuple[str, ...]:
        """The split's reference files."""
        paths: Files = getattr(self, f"{split}_target")
        return (paths,) if isinstance(paths, str) else tuple(paths or ())
