"""The base model's tokenizer: byte-level BPE learned on the skewed corpus, so fertility differs by
language.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from maple.atlas.corpus import documents

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"

_WORDS = r"\p{Han}| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""Letters keep their marks (GPT-2's pattern cuts Hindi and Thai at each vowel sign); a Han
character stands alone.
"""

_SPACED = (
    r"\n(?=[ \p{Latin}\p{Cyrillic}\p{Greek}\p{Arabic}\p{Hebrew}\p{Devanagari}\p{Bengali}\p{Tamil}"
    r"\p{Telugu}\p{Sinhala}\p{Ethiopic}\p{Hangul}])"
)
"""A line's end before a script that writes spaces. A space is put after it and taken out again by
the decoder, so that a name has the same tokens at the start of a line as inside a sentence: else an
answer could not be copied from its passage.
"""


def train_tokenizer(out: Path, *, vocabulary: int, documents_read: int, seed: int) -> Any:
    """Learns a tokenizer, writes it to a directory and returns it, a `PreTrainedTokenizerFast`.

    Args:
        out: Directory for `tokenizer.json` and its configuration.
        vocabulary: Size with the three special tokens, which are ids 0 (bos), 1 (eos) and 2 (pad).
        documents_read: Corpus documents to learn from.
        seed: Seed of the corpus.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(Regex(_SPACED), "\n ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("\n ", "\n")])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, special=True) for token in (BOS, EOS, PAD)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, documents_read), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    make: Any = PreTrainedTokenizerFast  # untyped in transformers
    fast = make(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.save_pretrained(out)
    return fast


def _texts(seed: int, count: int) -> Iterator[str]:
    return (document.text for document in islice(documents(seed), count))
