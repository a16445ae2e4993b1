"""The lm-eval prompt form against lm-evaluation-harness 0.4.13's own tasks, language by language.

Documents are written to files in the upstream layout, read by our task, and worded; the harness
words the same documents in the Hub's columns. Whole (context, continuation) texts are compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lm_eval_oracle
import pytest

from maple import languages
from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.files import Files
from maple.study import PromptSettings

SHARED = Path(os.environ.get("MAPLE_SHARED", Path(__file__).parents[3] / "shared" / "data"))
LM_EVAL = PromptSettings(form="lm-eval")

# Two sentences and an unpunctuated one per language; quotes, braces and backslashes because the
# harness words XNLI through a template and Python literals.
PREMISES = {
    "ar": ["ذهب الرجل إلى السوق.", "هل نزل المطر؟", "انكسر الباب"],
    "bn": ["লোকটি বাজারে গেল।", "বৃষ্টি হয়েছিল?", "দরজাটা ভেঙে গেল"],
    "bg": ["Мъжът отиде на пазар.", "Валя ли?", "Вратата се счупи"],
    "de": ["Der Mann ging zum „Markt“.", "Regnete es?", "Die Tür zerbrach"],
    "el": ["Ο άνδρας πήγε στην αγορά.", "Έβρεξε;", "Η πόρτα έσπασε"],
    "en": ["The man's {hat} fell off.", 'Did it "rain"?', "The door broke \\ fell"],
    "es": ["El hombre fue al mercado.", "¿Llovió?", "La puerta se rompió"],
    "eu": ["Gizona azokara joan zen.", "Euria egin al zuen?", "Atea hautsi zen"],
    "et": ["Mees läks turule.", "Kas sadas?", "Uks läks katki"],
    "fr": ["L'homme alla au marché.", "A-t-il plu ?", "La porte s'est cassée"],
    "hi": ["आदमी बाज़ार गया।", "क्या बारिश हुई?", "दरवाज़ा टूट गया"],
    "ht": ["Nonm nan te ale nan mache.", "Èske lapli te tonbe?", "Pòt la te kase"],
    "id": ["Pria itu pergi ke pasar.", "Apakah hujan?", "Pintunya rusak"],
    "it": ["L'uomo andò al mercato.", "È piovuto?", "La porta si ruppe"],
    "ja": ["男は市場へ行った。", "雨が降った？", "戸が壊れた"],
    "ko": ["남자가 시장에 갔다.", "비가 왔습니까?", "문이 부서졌다"],
    "my": ["ထိုလူ ဈေးသို့သွားသည်။", "မိုးရွာသလား။", "တံခါးပျက်သွားသည်"],
    "qu": ["Qhariqa qhatuman rirqan.", "Pararqanchu?", "Punkuqa p'akikurqan"],
    "ro": ["Bărbatul a mers la piață.", "A plouat?", "Ușa s-a spart"],
    "ru": ["Мужчина пошёл на рынок.", "Шёл дождь?", "Дверь сломалась"],
    "sw": ["Mwanaume alienda sokoni.", "Je, mvua ilinyesha?", "Mlango ulivunjika"],
    "ta": ["அவன் சந்தைக்குச் சென்றான்.", "மழை பெய்ததா?", "கதவு உடைந்தது"],
    "th": ["ชายคนนั้นไปตลาด", "ฝนตกไหม?", "ประตูพัง"],
    "tr": ["Adam pazara gitti.", "İyi yağmur yağdı mı?", "Kapı kırıldı"],
    "te": ["ఆ మనిషి బజారుకు వెళ్ళాడు.", "వర్షం పడిందా?", "తలుపు విరిగింది"],
    "ur": ["آدمی بازار گیا۔", "کیا بارش ہوئی؟", "دروازہ ٹوٹ گیا"],
    "vi": ["Người đàn ông đi chợ.", "Trời có mưa không?", "Cánh cửa bị gãy"],
    "zh": ["那个男人去了市场。", "下雨了吗？", "门坏了"],
}


def codes(task: str) -> list[str]:
    return sorted(load_task(task).info.languages.values())


def code_of(name: str) -> str:
    return "qve_Latn" if name == "qu" else languages.find(name).code


def texts_of(name: str) -> list[str]:
    """Three sentences; English ones where there are none in one of Belebele's 122 variants."""
    tag = languages.find(name).tag if len(name) > 2 else name
    return PREMISES.get(tag, PREMISES["en"])


def small_documents(task: str, name: str) -> list[dict[str, Any]]:
    texts = texts_of(name)
    if task == "belebele":
        return [
            {
                "link": "https://example.org/a",
                "question_number": n,
                "flores_passage": " ".join(texts) + " ",
                "question": f" {text} ",
                **{f"mc_answer{k}": texts[(n + k) % 3] for k in (1, 2, 3, 4)},
                "correct_answer_num": str(n + 1),
                "dialect": name,
                "ds": "2023-05-03",
            }
            for n, text in enumerate(texts)
        ]
    if task == "xstorycloze":
        return [
            {
                "story_id": f"id{n}",
                **{f"input_sentence_{k}": texts[(n + k) % 3] for k in (1, 2, 3, 4)},
                "sentence_quiz1": text,
                "sentence_quiz2": texts[n - 1],
                "answer_right_ending": 1 + n % 2,
            }
            for n, text in enumerate(texts)
        ]
    if task == "pawsx":
        return [
            {"id": n, "sentence1": text, "sentence2": texts[n - 2], "label": n % 2}
            for n, text in enumerate(texts, start=1)
        ]
    if task == "xnli":
        return [
            {"premise": text, "hypothesis": texts[n - 1], "label": n}
            for n, text in enumerate(texts)
        ]
    if task == "xcopa":
        return [
            {
                "premise": text,
                "choice1": texts[0],
                "choice2": texts[n - 1],
                "question": ("cause", "effect")[n % 2],
                "label": n % 2,
                "idx": n,
                "changed": False,
            }
            for n, text in enumerate(texts)
        ]
    # TyDiQA's documents name their language in the id; the harness picks them by it.
    prefix = f"{languages.find(name).name.lower()}-" if task == "tydiqa-goldp" else ""
    return [
        {
            "id": f"{prefix}id{n}",
            "title": "T",
            "context": "\ufeff" + " ".join(texts) + " ",
            "question": text,
            "answers": {"text": [texts[0]], "answer_start": [1]},
        }
        for n, text in enumerate(texts)
    ]


def write_files(root: Path, task: str, name: str, documents: Sequence[dict[str, Any]]) -> None:
    """Documents in the Hub's columns -> files in the upstream release's layout."""
    if task == "xnli":
        path = root / "xnli" / f"test-{name}.tsv"
        lines = [f"{d['premise']}\t{d['hypothesis']}\t{d['label']}\n" for d in documents]
        text = "".join(lines)
    elif task == "xcopa":
        path = root / "xcopa" / "data" / name / f"test.{name}.jsonl"
        text = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents)
    elif task == "belebele":
        path = root / "belebele" / "data" / f"{name}.jsonl"
        text = "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents)
    elif task == "xstorycloze":
        path = root / "xstorycloze" / f"spring2016.val.{name}.tsv.split_20_80_eval.tsv"
        numbers = range(1, 5)
        header = ["InputStoryid", *(f"InputSentence{n}" for n in numbers)]
        header += ["RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2", "AnswerRightEnding"]
        lines = ["\t".join(map(str, row)) + "\n" for row in (header, *map(dict.values, documents))]
        text = "".join(lines)
    elif task == "pawsx":
        path = root / "pawsx" / "x-final" / name / "test_2k.tsv"
        rows = [list(documents[0]), *(list(d.values()) for d in documents)]
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    elif task == "tydiqa-goldp":
        path = root / "tydiqa" / "tydiqa-goldp-v1.1-dev.json"
        text = json.dumps({"data": [{"paragraphs": list(map(_paragraph, documents))}]})
    elif task.startswith("mlqa"):
        context = task.partition(":")[2] or name
        path = root / "mlqa" / "test" / f"test-context-{context}-question-{name}.json"
        text = json.dumps({"data": [{"paragraphs": list(map(_paragraph, documents))}]})
    else:
        path = root / "xquad" / f"xquad.{name}.json"
        text = json.dumps({"data": [{"paragraphs": list(map(_paragraph, documents))}]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _paragraph(document: dict[str, Any]) -> dict[str, Any]:
    answers = [{"text": text, "answer_start": 0} for text in document["answers"]["text"]]
    question = {"id": document["id"], "question": document["question"], "answers": answers}
    return {"context": document["context"], "qas": [question]}


def our_arguments(
    task: str, name: str, root: Path, split: str | None = None
) -> list[list[tuple[Any, ...]]]:
    """What our task asks of every sample, in the harness's shape of arguments."""
    entry = load_task(task)
    samples = entry.samples(Files(directory=root), code_of(name), split or entry.info.split)
    return [_arguments(entry.request(s, code_of(name), LM_EVAL)) for s in samples]


def _arguments(request: Any) -> list[tuple[Any, ...]]:
    if isinstance(request, RankingRequest):
        continuations = request.continuations
        return [(request.context, request.delimiter + text) for text in continuations]
    assert isinstance(request, GenerationRequest)
    assert request.max_new_tokens == 256, "the harness's engine generates up to 256 tokens"
    settings = {"until": list(request.stop), "do_sample": False, "temperature": 0.0}
    return [(request.context, settings)]


def their_arguments(task: str, name: str, documents: Sequence[Any]) -> list[list[tuple[Any, ...]]]:
    samples = lm_eval_oracle.lm_eval_requests(task, name, documents)
    assert [sample.doc_id for sample in samples] == list(range(len(documents)))
    return [[_greedy(arguments) for arguments in sample.arguments] for sample in samples]


def _greedy(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Temperature 0 said aloud: without sampling it is the same, and mlqa's YAML leaves it out."""
    context, other = arguments
    if isinstance(other, dict) and not other["do_sample"]:
        return context, {**other, "temperature": other.get("temperature", 0.0)}
    return arguments


def our_gold(task: str, name: str, root: Path) -> list[int]:
    entry = load_task(task)
    samples = entry.samples(Files(directory=root), code_of(name), entry.info.split)
    return [int(sample.gold[0]) for sample in samples]


def their_gold(task: str, name: str, documents: Sequence[Any]) -> list[int]:
    return [int(s.target) for s in lm_eval_oracle.lm_eval_requests(task, name, documents)]


# ------------------------------------------------------------------- every official language


@pytest.mark.parametrize("name", codes("xnli"))
def test_xnli_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("xnli", name)
    write_files(tmp_path, "xnli", name, documents)
    assert our_arguments("xnli", name, tmp_path) == their_arguments("xnli", name, documents)


@pytest.mark.parametrize("name", codes("xquad"))
def test_xquad_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("xquad", name)
    write_files(tmp_path, "xquad", name, documents)
    assert our_arguments("xquad", name, tmp_path) == their_arguments("xquad", name, documents)


@pytest.mark.parametrize("name", codes("mlqa"))
def test_mlqa_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("mlqa", name)
    write_files(tmp_path, "mlqa", name, documents)
    assert our_arguments("mlqa", name, tmp_path) == their_arguments("mlqa", name, documents)


@pytest.mark.parametrize("name", codes("pawsx"))
def test_pawsx_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("pawsx", name)
    write_files(tmp_path, "pawsx", name, documents)
    assert our_arguments("pawsx", name, tmp_path) == their_arguments("pawsx", name, documents)
    assert our_gold("pawsx", name, tmp_path) == their_gold("pawsx", name, documents)


@pytest.mark.parametrize("name", codes("tydiqa-goldp"))
def test_tydiqa_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("tydiqa-goldp", name)
    write_files(tmp_path, "tydiqa-goldp", name, documents)
    ours = our_arguments("tydiqa-goldp", name, tmp_path)
    assert ours == their_arguments("tydiqa-goldp", name, documents)


@pytest.mark.parametrize("pair", ["en:de", "zh:ar", "hi:hi"])
def test_mlqas_pairs_are_worded_as_lm_eval_does(pair: str, tmp_path: Path) -> None:
    context, name = pair.split(":")
    documents = small_documents("mlqa", name)
    write_files(tmp_path, f"mlqa:{context}", name, documents)
    ours = our_arguments(f"mlqa:{context}", name, tmp_path)
    assert ours == their_arguments(f"mlqa:{context}", name, documents)


@pytest.mark.parametrize("name", codes("xstorycloze"))
def test_xstorycloze_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("xstorycloze", name)
    write_files(tmp_path, "xstorycloze", name, documents)
    ours = our_arguments("xstorycloze", name, tmp_path)
    assert ours == their_arguments("xstorycloze", name, documents)
    assert our_gold("xstorycloze", name, tmp_path) == their_gold("xstorycloze", name, documents)


# Its YAML files differ in the name of the language alone, which is tested of all 122 at once.
@pytest.mark.parametrize("name", ["ben_Latn", "eng_Latn", "swh_Latn", "tha_Thai", "zho_Hans"])
def test_belebele_words_its_prompts_as_lm_eval_does(name: str, tmp_path: Path) -> None:
    documents = small_documents("belebele", name)
    write_files(tmp_path, "belebele", name, documents)
    assert our_arguments("belebele", name, tmp_path) == their_arguments("belebele", name, documents)
    assert our_gold("belebele", name, tmp_path) == their_gold("belebele", name, documents)


def test_belebele_has_lm_evals_languages() -> None:
    import lm_eval.tasks

    folder = Path(lm_eval.tasks.__file__).parent / "belebele"
    names = {path.stem.removeprefix("belebele_") for path in folder.glob("belebele_*.yaml")}
    assert names == set(codes("belebele"))


@pytest.mark.parametrize("name", codes("xcopa"))
def test_xcopa_words_its_prompts_as_lm_eval_does_where_a_premise_ends_in_punctuation(
    name: str, tmp_path: Path
) -> None:
    documents = small_documents("xcopa", name)
    documents = [d for d in documents if d["premise"][-1] in ".?？。؟।"]
    assert documents
    write_files(tmp_path, "xcopa", name, documents)
    assert our_arguments("xcopa", name, tmp_path) == their_arguments("xcopa", name, documents)


@pytest.mark.parametrize("name", codes("xcopa"))
def test_xcopa_keeps_the_letter_that_lm_eval_cuts_off_an_unpunctuated_premise(
    name: str, tmp_path: Path
) -> None:
    document = small_documents("xcopa", name)[-1]
    write_files(tmp_path, "xcopa", name, [document])
    ours, theirs = (
        our_arguments("xcopa", name, tmp_path),
        their_arguments("xcopa", name, [document]),
    )
    assert_only_a_letter_differs(ours[0], theirs[0], document["premise"])


def assert_only_a_letter_differs(
    ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]], premise: str
) -> None:
    for (our_context, our_option), (their_context, their_option) in zip(ours, theirs, strict=True):
        assert our_option == their_option
        assert our_context.startswith(premise.strip())
        assert not their_context.startswith(premise.strip())
        connector = our_context.removeprefix(premise.strip())
        assert their_context == premise.strip()[:-1] + connector


# ----------------------------------------------------------------------- the real release files


def real_languages(task: str) -> list[Any]:
    pattern = {
        "xnli": ("xnli", "test-*.tsv", slice(5, None)),
        "xcopa": ("xcopa/data", "*/test.*.jsonl", slice(5, None)),
        "xquad": ("xquad", "xquad.*.json", slice(6, None)),
        "belebele": ("belebele/data", "*.jsonl", slice(None)),
        "mlqa": ("mlqa/MLQA_V1/dev", "dev-context-*.json", slice(-2, None)),
    }[task]
    folder, glob, part = pattern
    found = sorted(path.stem[part] for path in (SHARED / folder).glob(glob))
    reason = f"no {task} release files under MAPLE_SHARED"
    return found or [pytest.param("en", marks=pytest.mark.skip(reason=reason))]


def real_documents(task: str, name: str) -> Iterator[dict[str, Any]]:
    """Release files read in the plainest way, independently of ours."""
    if task == "belebele":
        path = SHARED / "belebele" / "data" / f"{name}.jsonl"
        yield from map(json.loads, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
        return
    if task == "xnli":
        text = (SHARED / "xnli" / f"test-{name}.tsv").read_text(encoding="utf-8")
        for line in text.rstrip("\n").split("\n"):
            premise, hypothesis = line.split("\t")
            yield {"premise": premise, "hypothesis": hypothesis, "label": 0}
    elif task == "xcopa":
        path = SHARED / "xcopa" / "data" / name / f"test.{name}.jsonl"
        yield from map(json.loads, path.read_text(encoding="utf-8").rstrip("\n").split("\n"))
    else:
        path = SHARED / "xquad" / f"xquad.{name}.json"
        if task == "mlqa":
            path = SHARED / "mlqa/MLQA_V1/dev" / f"dev-context-{name}-question-{name}.json"
        release = json.loads(path.read_text(encoding="utf-8"))
        for article in release["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    answers = [answer["text"] for answer in question["answers"]]
                    yield {
                        "id": question["id"],
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": {"text": answers, "answer_start": [0] * len(answers)},
                    }


@pytest.mark.parametrize("name", real_languages("xnli"))
def test_xnli_release_is_worded_as_lm_eval_does(name: str) -> None:
    ours = our_arguments("xnli", name, SHARED)[::50]
    assert ours == their_arguments("xnli", name, list(real_documents("xnli", name))[::50])


@pytest.mark.parametrize("name", real_languages("xquad"))
def test_xquad_release_is_worded_as_lm_eval_does(name: str) -> None:
    ours = our_arguments("xquad", name, SHARED)[::10]
    assert ours == their_arguments("xquad", name, list(real_documents("xquad", name))[::10])


@pytest.mark.parametrize("name", real_languages("belebele"))
def test_belebele_release_is_worded_as_lm_eval_does(name: str) -> None:
    ours = our_arguments("belebele", name, SHARED)[::10]
    documents = list(real_documents("belebele", name))[::10]
    assert ours == their_arguments("belebele", name, documents)
    assert our_gold("belebele", name, SHARED)[::10] == their_gold("belebele", name, documents)


@pytest.mark.parametrize("name", real_languages("mlqa"))
def test_mlqa_release_is_worded_as_lm_eval_does(name: str) -> None:
    ours = our_arguments("mlqa", name, SHARED, "validation")[::10]
    assert ours == their_arguments("mlqa", name, list(real_documents("mlqa", name))[::10])


@pytest.mark.parametrize("name", [n for n in real_languages("xcopa") if n != "th"])
def test_xcopa_release_is_worded_as_lm_eval_does(name: str) -> None:
    ours = our_arguments("xcopa", name, SHARED)
    assert ours == their_arguments("xcopa", name, list(real_documents("xcopa", name)))


@pytest.mark.skipif("th" not in real_languages("xcopa"), reason="no Thai XCOPA release file")
def test_xcopa_in_thai_differs_from_lm_eval_in_every_premise() -> None:
    # No Thai premise ends in punctuation, so lm-eval's "drop the period" drops a letter of each.
    documents = list(real_documents("xcopa", "th"))
    ours = our_arguments("xcopa", "th", SHARED)
    theirs = their_arguments("xcopa", "th", documents)
    assert len(documents) == 500
    for our, their, document in zip(ours, theirs, documents, strict=True):
        assert_only_a_letter_differs(our, their, document["premise"])


# ------------------------------------------------------------------------------ known differences


def test_tamil_keeps_the_one_form_lm_eval_gets_right(tmp_path: Path) -> None:
    # 499 of 500 Tamil premises are unpunctuated, as the third one here is.
    documents = small_documents("xcopa", "ta")
    write_files(tmp_path, "xcopa", "ta", documents)
    ours = our_arguments("xcopa", "ta", tmp_path)
    theirs = their_arguments("xcopa", "ta", documents)
    assert [a == b for a, b in zip(ours, theirs, strict=True)] == [True, True, False]


def test_chinese_and_thai_are_joined_with_ascii_spaces_in_the_lm_eval_form_only(
    tmp_path: Path,
) -> None:
    entry = load_task("xcopa")
    native = PromptSettings(form="mega", instruction_language="native")
    for name in ("zh", "th"):
        write_files(tmp_path, "xcopa", name, small_documents("xcopa", name))
        (context, option), *_ = our_arguments("xcopa", name, tmp_path)[0]
        assert " " in context.strip()
        assert option.startswith(" ")
        samples = entry.samples(Files(directory=tmp_path), code_of(name), "test")
        request = entry.request(next(samples), code_of(name), native)
        assert isinstance(request, RankingRequest)
        assert request.delimiter == "\n"
        # Thai keeps the spaces around the colon of the wording; Chinese has a colon of its own.
        assert " " not in request.context.replace(" : ", ":")


def test_english_copa_has_two_spaces_before_an_option_as_in_lm_eval(tmp_path: Path) -> None:
    write_files(tmp_path, "xcopa", "en", small_documents("xcopa", "en"))
    (_, option), *_ = our_arguments("xcopa", "en", tmp_path)[0]
    assert option.startswith("  ")


# -------------------------------------------------------------------------- the harness's engine


@pytest.fixture(scope="module")
def tiny_model() -> Iterator[tuple[Any, Any]]:
    """A random two-layer Llama and a byte-level tokenizer that puts BOS first, as Llama's does."""
    import tokenizers
    import torch
    import transformers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([t for texts in PREMISES.values() for t in texts], trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.5,
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )
    yield transformers.LlamaForCausalLM(config).eval(), fast
    torch.set_num_threads(n_threads)


def summed_log_probability(model: Any, ids: list[int], start: int) -> float:
    """Of ``ids[start:]`` after ``ids[:start]``, one sequence alone, in float32."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    log_probabilities = torch.log_softmax(logits, dim=-1)
    return sum(float(log_probabilities[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_lm_eval_puts_bos_before_an_empty_context(tiny_model: tuple[Any, Any]) -> None:
    model, tokenizer = tiny_model
    samples = lm_eval_oracle.lm_eval_requests("xnli", "hi", small_documents("xnli", "hi"))
    answers = lm_eval_oracle.lm_eval_responses(model, tokenizer, samples, batch_size=4)
    for sample, answer in zip(samples, answers, strict=True):
        for (context, continuation), (value, _) in zip(sample.arguments, answer, strict=True):
            assert context == ""
            ids = tokenizer(continuation, add_special_tokens=False)["input_ids"]
            assert value == pytest.approx(summed_log_probability(model, [0, *ids], 1), abs=1e-3)


def test_lm_eval_splits_the_joint_tokens_where_the_context_alone_ends(
    tiny_model: tuple[Any, Any],
) -> None:
    model, tokenizer = tiny_model
    samples = lm_eval_oracle.lm_eval_requests("xcopa", "ta", small_documents("xcopa", "ta"))
    answers = lm_eval_oracle.lm_eval_responses(model, tokenizer, samples, batch_size=4)
    for sample, answer in zip(samples, answers, strict=True):
        for (context, continuation), (value, _) in zip(sample.arguments, answer, strict=True):
            ids = tokenizer(context + continuation)["input_ids"]
            start = len(tokenizer(context)["input_ids"])
            assert value == pytest.approx(summed_log_probability(model, ids, start), abs=1e-3)


def test_lm_eval_generates_greedily_up_to_the_end_of_a_line(tiny_model: tuple[Any, Any]) -> None:
    model, tokenizer = tiny_model
    samples = lm_eval_oracle.lm_eval_requests("xquad", "zh", small_documents("xquad", "zh"))
    answers = lm_eval_oracle.lm_eval_responses(model, tokenizer, samples[:2], batch_size=2)
    for sample, (answer,) in zip(samples, answers, strict=False):
        ids = tokenizer(sample.arguments[0][0])["input_ids"]
        new = greedy_tokens(model, ids, tokenizer.eos_token_id, limit=256)
        assert answer == tokenizer.decode(new, skip_special_tokens=True).split("\n")[0]


def greedy_tokens(model: Any, ids: list[int], end: int, *, limit: int) -> list[int]:
    import torch

    new: list[int] = []
    state: dict[str, Any] = {"input_ids": torch.tensor([ids])}
    with torch.no_grad():
        while len(new) < limit and end not in new:
            output = model(**state, use_cache=True)
            new.append(int(output.logits[0, -1].argmax()))
            last = torch.tensor([new[-1:]])
            state = {"input_ids": last, "past_key_values": output.past_key_values}
    return new
